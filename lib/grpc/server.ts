// A gRPC server over TLS whose certificate can change while connections go on.
import {
  Server,
  ServerCredentials,
  type MethodDefinition,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceError,
  type sendUnaryData,
  Metadata,
  status as Status,
} from "@grpc/grpc-js";
import type { SecureContextOptions } from "node:tls";
import { grpcError, type GrpcError } from "./errors.ts";
import { paceWrites } from "./paced-writes.ts";

export interface ServingPair {
  /** Leaf first, then its issuers. */
  readonly certChainPem: string;
  readonly privateKeyPem: string;
}

export interface GrpcServerOptions {
  /** Default 64 MiB: a reconnect names every resource its client holds. */
  readonly maxReceiveBytes?: number;
  /** Jittered by grpc-js. Absent: connections live for ever. */
  readonly maxConnectionAgeMs?: number;
}

const MAX_RECEIVE_BYTES = 64 * 1024 * 1024;
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
/** After a GOAWAY for age, streams have this long to move on. */
const AGE_GRACE_MS = 10_000;
/** A client needs one stream and a few calls; more on one connection is a mistake. */
const MAX_STREAMS_PER_CONNECTION = 256;

/** Owns its listeners and everything accepted from them. */
export class GrpcServer {
  readonly #server: Server;
  readonly #credentials: ReloadableCredentials;

  constructor(pair: ServingPair, options: GrpcServerOptions = {}) {
    this.#credentials = new ReloadableCredentials(pair);
    this.#server = new Server({
      "grpc.max_receive_message_length": options.maxReceiveBytes ?? MAX_RECEIVE_BYTES,
      "grpc.max_send_message_length": -1,
      "grpc.max_concurrent_streams": MAX_STREAMS_PER_CONNECTION,
      "grpc.keepalive_time_ms": KEEPALIVE_MS,
      "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
      "grpc.enable_channelz": 0,
      ...(options.maxConnectionAgeMs === undefined
        ? {}
        : {
            "grpc.max_connection_age_ms": options.maxConnectionAgeMs,
            "grpc.max_connection_age_grace_ms": AGE_GRACE_MS,
          }),
    });
  }

  /** New connections get the new certificate; those in progress go on. */
  setCertificate(pair: ServingPair): void {
    this.#credentials.update(pair);
  }

  /** `handler` owns the stream: it ends it, or destroys it with `endWith`. */
  handleStream<Req, Res>(
    method: MethodDefinition<Req, Res>,
    handler: (stream: ServerDuplexStream<Req, Res>) => void,
  ): void {
    const { path, responseSerialize, requestDeserialize } = method;
    const start = (stream: ServerDuplexStream<Req, Res>): void => {
      paceWrites(stream);
      handler(stream);
    };
    this.#server.register(path, start, responseSerialize, requestDeserialize, "bidi");
  }

  /** What `handler` throws becomes the status: a `GrpcError` as it is, anything else `UNKNOWN`. */
  handleUnary<Req, Res>(
    method: MethodDefinition<Req, Res>,
    handler: (request: Req, call: ServerUnaryCall<Req, Res>) => Promise<Res>,
  ): void {
    const answer = async (
      call: ServerUnaryCall<Req, Res>,
      done: sendUnaryData<Res>,
    ): Promise<void> => {
      try {
        done(null, await handler(call.request, call));
      } catch (error) {
        done(statusOf(grpcError(error)));
      }
    };
    const { path, responseSerialize, requestDeserialize } = method;
    const start = (call: ServerUnaryCall<Req, Res>, done: sendUnaryData<Res>): void =>
      void answer(call, done);
    this.#server.register(path, start, responseSerialize, requestDeserialize, "unary");
  }

  /** @param address `ip:port`; port 0 picks one. @returns the port listened on */
  async listen(address: string): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(address, this.#credentials, (error, port) => {
        if (error === null) resolve(port);
        else reject(error);
      });
    });
  }

  /** Refuses new connections and sends GOAWAY; resolves when all calls ended, or cuts them after `deadlineMs`. */
  async drain(deadlineMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.#server.forceShutdown();
        resolve();
      }, deadlineMs);
      this.#server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  close(): void {
    this.#server.forceShutdown();
  }
}

/** Ends a stream with a status other than OK. */
export function endWith<Req, Res>(stream: ServerDuplexStream<Req, Res>, error: GrpcError): void {
  stream.emit("error", statusOf(error));
}

function statusOf(error: GrpcError): Partial<ServiceError> {
  return {
    name: error.name,
    message: error.message,
    code: Status[error.code],
    details: error.details,
    metadata: new Metadata(),
  };
}

class ReloadableCredentials extends ServerCredentials {
  constructor(pair: ServingPair) {
    // A client certificate is neither asked for nor believed: tokens identify the callers.
    super({}, contextOptions(pair));
  }

  update(pair: ServingPair): void {
    this.updateSecureContextOptions(contextOptions(pair));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function contextOptions(pair: ServingPair): SecureContextOptions {
  return { cert: pair.certChainPem, key: pair.privateKeyPem, minVersion: "TLSv1.2" };
}
