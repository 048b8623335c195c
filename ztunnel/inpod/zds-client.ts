// The connection to the node agent: connects once the mesh is known, says hello, and carries out and
// acknowledges one message after the other. Loss of the agent never touches pods that are served.
import { Backoff } from "#lib/base/backoff.ts";
import type { Clock, Random } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { connectSeqpacket, type SeqpacketConnection } from "#lib/sys/seqpacket.ts";
import { Version, WorkloadResponse, ZdsHello } from "#lib/wire/gen/zds.gen.ts";
import { ZtunnelError } from "../errors.ts";
import type { Pods } from "./pods.ts";
import { ZdsSession, type ZdsAction } from "./zds-session.ts";

export interface ZdsClientOptions {
  /** INPOD_UDS */
  readonly path: string;
  readonly pods: Pods;
  /** Whether the agent's snapshot of this connection has been taken in. */
  readonly onLive: (isLive: boolean) => void;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: Random;
}

const CONNECT_BACKOFF = { startMs: 10, maxMs: 15_000 } as const;
/** After a connection that ended before its snapshot was complete. */
const SESSION_BACKOFF = { startMs: 5, maxMs: 15_000, jitter: 0.2 } as const;
/** Both ends receive into 1024 bytes; this leaves room for the message around the text. */
const MAX_ERROR_BYTES = 1_000;

export class ZdsClient {
  readonly #options: ZdsClientOptions;

  constructor(options: ZdsClientOptions) {
    this.#options = options;
  }

  /**
   * Stays connected until `signal` aborts, then resolves.
   * @throws {ZtunnelError} ZDS_PROTOCOL when the agent breaks the protocol: the process must end
   */
  async run(signal: AbortSignal): Promise<void> {
    const { path, log, clock, random, onLive } = this.#options;
    const connectBackoff = new Backoff(CONNECT_BACKOFF);
    const sessionBackoff = new Backoff({ ...SESSION_BACKOFF, random });
    while (!signal.aborted) {
      const connection = await this.#connect();
      if (connection instanceof Error) {
        const delayMs = connectBackoff.next();
        log[delayMs > 1_000 ? "warn" : "debug"](
          { path, error: connection, retryMs: delayMs },
          "cannot reach the node agent",
        );
        await clock.sleep(delayMs, signal);
        continue;
      }
      connectBackoff.reset();
      using _open = connection;
      const session = new ZdsSession();
      try {
        await this.#serve(connection, session, signal);
      } catch (error) {
        if (error instanceof ZtunnelError) throw error;
        if (!signal.aborted) log.warn({ error }, "node agent connection failed");
      } finally {
        onLive(false);
      }
      if (signal.aborted) return;
      log.info({ path }, "node agent disconnected");
      if (session.isLive) sessionBackoff.reset();
      else await clock.sleep(sessionBackoff.next(), signal);
    }
  }

  async #connect(): Promise<SeqpacketConnection | Error> {
    try {
      return await connectSeqpacket(this.#options.path);
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  /** Resolves at the end of the connection. */
  async #serve(
    connection: SeqpacketConnection,
    session: ZdsSession,
    signal: AbortSignal,
  ): Promise<void> {
    const { pods, log, path } = this.#options;
    pods.dropPending();
    await connection.send(ZdsHello.encode({ version: Version.V1 }).finish());
    log.info({ path }, "node agent connected");
    for (;;) {
      const datagram = await connection.receive(signal);
      if (datagram === null) return;
      const action = session.on(datagram);
      if (action.kind !== "add") for (const fd of datagram.fds) closeFd(fd);
      const error = await this.#carryOut(action);
      await connection.send(ack(error));
      if (action.kind === "protocol-error")
        throw new ZtunnelError(
          "ZDS_PROTOCOL",
          `The node agent broke the protocol: ${action.reason}`,
        );
      if (action.kind === "bad-message") {
        log.warn({ reason: action.reason }, "bad message from the node agent");
        return;
      }
    }
  }

  /** @returns what the acknowledgement says; empty for success */
  async #carryOut(action: ZdsAction): Promise<string> {
    const { pods, onLive, log } = this.#options;
    switch (action.kind) {
      case "add":
        return (await pods.add(action.pod, action.netnsFd)) ?? "";
      case "remove":
        await pods.remove(action.uid);
        return "";
      case "reconcile":
        pods.keepOnly(action.wanted);
        onLive(true);
        log.info({ pods: action.wanted.size }, "node agent snapshot complete");
        return "";
      case "noted":
        return "";
      case "bad-message":
      case "protocol-error":
        return action.reason;
      default:
        return action satisfies never;
    }
  }
}

function ack(error: string): Uint8Array {
  const bytes = Buffer.from(error);
  // A character cut in half decodes to U+FFFD, which is longer than its first byte: leave room.
  const text =
    bytes.length <= MAX_ERROR_BYTES ? error : bytes.subarray(0, MAX_ERROR_BYTES - 3).toString();
  return WorkloadResponse.encode({ payload: { $case: "ack", value: { error: text } } }).finish();
}
