// What a data-plane worker is told at its birth (`workerData`). Plain data, fixed for its life.

export interface WorkerConfig {
  readonly index: number;
  /** Of the worker's random numbers, which choose endpoints and make trace ids; not for secrets. */
  readonly seed: readonly [number, number, number, number];
  /** Written by the main thread after each message; the worker sleeps in epoll on it. */
  readonly wakeFd: number;
  readonly nodeName: string;
  readonly network: string;
  /** SO_MARK of every socket opened in a pod. */
  readonly packetMark: number;
  readonly reusePort: boolean;
  readonly ipv6Enabled: boolean;
  /** Keep the client's address towards the application; null: if the kernel allows it. */
  readonly origSrc: boolean | null;
  readonly localhostAppTunnel: boolean;
  readonly responseBaggage: boolean;
  readonly poolMaxStreams: number;
  readonly poolIdleMs: number;
  /** Seconds; null switches TCP keepalive off. */
  readonly keepalive: {
    readonly idle: number;
    readonly interval: number;
    readonly count: number;
  } | null;
  readonly logFormat: "plain" | "json";
  readonly accessLog: "off" | "info" | "debug";
}
