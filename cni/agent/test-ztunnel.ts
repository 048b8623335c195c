// For tests: a ztunnel as the agent sees it. Says hello on the ZDS socket, notes what it gets, answers
// as told.
import { setTimeout as sleep } from "node:timers/promises";
import { asNetnsFd, closeFd, netnsId } from "#lib/sys/netns.ts";
import { connectSeqpacket, type SeqpacketConnection } from "#lib/sys/seqpacket.ts";
import { WorkloadRequest, WorkloadResponse, ZdsHello } from "#lib/wire/gen/zds.gen.ts";

export interface SeenRequest {
  readonly kind: "add" | "del" | "keep" | "snapshotSent";
  readonly uid: string;
  /** `device:inode` of the descriptor that came along. */
  readonly netnsId: string | null;
  readonly fds: number;
  readonly bytes: Uint8Array;
}

export class TestZtunnel implements Disposable {
  readonly seen: SeenRequest[] = [];
  /** The error of the answer; "" accepts, `null` does not answer at all. */
  answer: (request: SeenRequest) => string | null = () => "";
  isGone = false;
  readonly #socket: SeqpacketConnection;

  private constructor(socket: SeqpacketConnection) {
    this.#socket = socket;
  }

  static async connect(path: string, hello = true): Promise<TestZtunnel> {
    const ztunnel = new TestZtunnel(await connectSeqpacket(path));
    if (hello) await ztunnel.say(ZdsHello.encode({ version: 1 }).finish());
    void ztunnel.#listen();
    return ztunnel;
  }

  /** Kinds and UIDs in order, e.g. `["add a", "snapshotSent"]`. */
  get log(): string[] {
    return this.seen.map((r) => `${r.kind} ${r.uid}`.trim());
  }

  /** Waits for a request; those seen before count too. */
  async has(kind: SeenRequest["kind"], uid = ""): Promise<SeenRequest> {
    return until(`${kind} ${uid}`, () => this.seen.find((r) => r.kind === kind && r.uid === uid));
  }

  async gone(): Promise<void> {
    await until("the end of the connection", () => this.isGone || undefined);
  }

  /** Bytes that belong to no request. */
  say(bytes: Uint8Array): Promise<void> {
    return this.#socket.send(bytes);
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }

  async #listen(): Promise<void> {
    for (;;) {
      const datagram = await this.#socket.receive().catch(() => null);
      if (datagram === null) break;
      const request = read(datagram.bytes, datagram.fds);
      this.seen.push(request);
      const error = this.answer(request);
      if (error === null) continue;
      const ack = WorkloadResponse.encode({ payload: { $case: "ack", value: { error } } }).finish();
      await this.say(ack).catch(() => undefined);
    }
    this.isGone = true;
  }
}

function read(bytes: Uint8Array, fds: readonly number[]): SeenRequest {
  const { payload } = WorkloadRequest.decode(bytes);
  const fd = fds[0];
  const id = fd === undefined ? null : netnsId(asNetnsFd(fd));
  for (const each of fds) closeFd(each);
  return {
    kind: payload?.$case ?? "snapshotSent",
    uid: payload === undefined || payload.$case === "snapshotSent" ? "" : payload.value.uid,
    netnsId: id,
    fds: fds.length,
    bytes,
  };
}

/** Polls for a condition. @throws after 5 s */
export async function until<T>(what: string, look: () => T | undefined): Promise<T> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const seen = look();
    if (seen !== undefined) return seen;
    if (Date.now() > deadline) throw new Error(`Waited 10 s for ${what}`);
    await sleep(2);
  }
}
