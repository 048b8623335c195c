// A byte stream to a port of a pod, through the API server and the kubelet. Each message of the WebSocket
// begins with a channel: 0 data, 1 errors; the first on each only names the port.
import { Duplex } from "node:stream";
import { KubeError } from "../errors.ts";
import type { ApiServer } from "./api-server.ts";
import { WebSocket } from "./web-socket.ts";

export interface PortForwardTarget {
  readonly namespace: string;
  readonly pod: string;
  readonly port: number;
}

const DATA = 0;
const ERROR = 1;
const PROTOCOLS = ["v4.channel.k8s.io"];

/**
 * The caller owns the stream. It has no half-close: the pod does not see that we have ended, and when the
 * pod ends the stream is over. A port where nobody listens fails the stream, not this call.
 * @throws {KubeError} when the pod cannot be reached
 */
export async function portForward(
  apiServer: ApiServer,
  target: PortForwardTarget,
  signal?: AbortSignal,
): Promise<Duplex> {
  const { namespace, pod, port } = target;
  const upgraded = await apiServer.upgrade(
    {
      method: "GET",
      path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/portforward`,
      query: { ports: String(port) },
      subject: {
        verb: "create",
        kind: "port-forward to Pod",
        group: "",
        resource: "pods/portforward",
        namespace,
        name: pod,
      },
      ...(signal === undefined ? {} : { signal }),
    },
    PROTOCOLS,
  );
  return new ForwardedPort(new WebSocket(upgraded), target);
}

class ForwardedPort extends Duplex {
  readonly #socket: WebSocket;
  readonly #messages: AsyncGenerator<Buffer, void, undefined>;
  readonly #target: PortForwardTarget;
  #isReading = false;
  /** Channels whose first message, the port, has been read. */
  readonly #opened = new Set<number>();

  constructor(socket: WebSocket, target: PortForwardTarget) {
    super({ allowHalfOpen: false }); // the protocol has no half-close

    this.#socket = socket;
    this.#messages = socket.messages();
    this.#target = target;
  }

  override _read(): void {
    if (this.#isReading) return;
    this.#isReading = true;
    this.#readSome()
      .catch((error: unknown) =>
        this.destroy(error instanceof Error ? error : new Error(String(error))),
      )
      .finally(() => {
        this.#isReading = false;
      });
  }

  override _write(chunk: Buffer, _: string, done: (error?: Error | null) => void): void {
    this.#socket.send(Buffer.concat([Buffer.from([DATA]), chunk])).then(
      () => done(), // oxlint-disable-line promise/no-callback-in-promise -- a stream's own contract
      done,
    );
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket[Symbol.dispose]();
    done(error);
  }

  /** Until the reader has enough. */
  async #readSome(): Promise<void> {
    for (;;) {
      const { value: message, done } = await this.#messages.next();
      if (done === true) {
        this.push(null);
        return;
      }
      const channel = message[0] ?? DATA;
      if (!this.#opened.has(channel)) {
        this.#opened.add(channel); // two bytes: the port
        continue;
      }
      const payload = message.subarray(1);
      if (channel === ERROR) {
        const { namespace, pod, port } = this.#target;
        const text = payload.toString("utf8").trim();
        const where = `port ${port} of Pod ${namespace}/${pod}`;
        throw new KubeError("UNAVAILABLE", `Cannot reach ${where}: ${text}`);
      }
      if (payload.length > 0 && !this.push(payload)) return;
    }
  }
}
