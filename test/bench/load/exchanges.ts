// Question and answer on open connections, one in flight on each.
import type { SocketAddr } from "#lib/net/ip.ts";
import { nativeBuffer, type NativeBuffer } from "#lib/sys/memory.ts";
import { EPOLLIN, Reactor } from "#lib/sys/reactor.ts";
import { Latencies } from "./latencies.ts";
import { ECHO, type LoadResult } from "./protocol.ts";
import { LoadSocket } from "./socket.ts";

const OPEN_TIMEOUT_MS = 5_000;
const input = nativeBuffer(64 * 1024);

export class Exchanges {
  readonly #reactor = new Reactor();
  readonly #target: SocketAddr;
  readonly #connections: number;
  readonly #kind: number;
  readonly question: NativeBuffer;
  readonly answerBytes: number;
  readonly latencies = new Latencies();
  #waiting: ExchangeSocket[] = [];
  #open = 0;
  #failures = 0;

  constructor(
    target: SocketAddr,
    connections: number,
    kind: number,
    question: Buffer,
    answerBytes: number,
  ) {
    this.#target = target;
    this.#connections = connections;
    this.#kind = kind;
    this.question = nativeBuffer(question.length);
    question.copy(this.question.bytes);
    this.answerBytes = answerBytes;
  }

  run(ms: number): LoadResult {
    for (let i = 0; i < this.#connections; i++)
      new ExchangeSocket(this.#reactor, this.#target, this, this.#kind === ECHO);
    const deadline = Date.now() + OPEN_TIMEOUT_MS;
    while (this.#open + this.#failures < this.#connections && Date.now() < deadline)
      this.#reactor.turn(100);
    const unopened = this.#connections - this.#open - this.#failures;
    const started = performance.now();
    for (const socket of this.#waiting) socket.ask();
    this.#waiting = [];
    while (performance.now() - started < ms && this.#open > 0) this.#reactor.turn(100);
    return this.latencies.result((performance.now() - started) / 1_000, this.#failures + unopened);
  }

  onOpen(socket: ExchangeSocket): void {
    this.#open++;
    this.#waiting.push(socket);
  }

  onFailed(wasOpen: boolean): void {
    if (wasOpen) this.#open--;
    this.#failures++;
  }
}

class ExchangeSocket extends LoadSocket {
  readonly #owner: Exchanges;
  readonly #isEcho: boolean;
  #isOpen = false;
  #askedAt = 0;
  #missing = 0;

  constructor(reactor: Reactor, target: SocketAddr, owner: Exchanges, isEcho: boolean) {
    super(reactor, target);
    this.#owner = owner;
    this.#isEcho = isEcho;
  }

  ask(): void {
    const { question, answerBytes } = this.#owner;
    this.#missing = answerBytes;
    this.#askedAt = performance.now();
    this.write(question.address, question.size);
  }

  protected onConnected(): void {
    this.listenFor(EPOLLIN);
    if (this.#isEcho) {
      input.bytes[0] = ECHO;
      this.write(input.address, 1);
    }
    this.#isOpen = true;
    this.#owner.onOpen(this);
  }

  protected onReadable(): void {
    const got = this.read(input.address, input.size);
    if (got <= 0) return;
    this.#missing -= got;
    if (this.#missing > 0) return;
    this.#owner.latencies.add((performance.now() - this.#askedAt) * 1_000);
    this.ask();
  }

  protected onFailed(): void {
    this.#owner.onFailed(this.#isOpen);
  }
}
