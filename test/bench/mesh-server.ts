// A control plane that serves a mesh of a given size on request and signs no certificate: what a
// ztunnel's tables cost, without istiod's share of the machine.
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { encodeDeltaResponse, type OutgoingResource } from "#lib/grpc/delta-messages.ts";
import { GrpcServer } from "#lib/grpc/server.ts";
import { deltaServerMethod } from "#lib/grpc/services.ts";
import { testCa, testPair } from "#lib/pki/test-ca.ts";
import type { DeltaDiscoveryRequest } from "#lib/wire/gen/discovery.gen.ts";
import { Address, Service, Workload } from "#lib/wire/gen/workload.gen.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "#lib/xds/type-urls.ts";

type Stream = ServerDuplexStream<DeltaDiscoveryRequest, Buffer>;

/** One node proxy's stream, both types subscribed; the addresses are still owed. */
export interface MeshStream {
  /** Sends so many workloads and their services. Resolves when they are acknowledged. */
  push(workloads: number, timeoutMs: number): Promise<void>;
}

export class MeshServer implements AsyncDisposable {
  readonly address: string;
  readonly rootPem: string;
  readonly #server: GrpcServer;
  #onStream: ((stream: MeshStream) => void) | null = null;

  private constructor(server: GrpcServer, port: number, rootPem: string) {
    this.#server = server;
    this.address = `https://127.0.0.1:${port}`;
    this.rootPem = rootPem;
  }

  static async start(): Promise<MeshServer> {
    const ca = await testCa();
    const server = new GrpcServer(await testPair(ca, ["127.0.0.1"]));
    const port = await server.listen("127.0.0.1:0");
    const made = new MeshServer(server, port, ca.rootPem);
    server.handleStream<DeltaDiscoveryRequest, Buffer>(deltaServerMethod, (stream) =>
      made.#serve(stream),
    );
    return made;
  }

  nextStream(timeoutMs: number): Promise<MeshStream> {
    return withTimeout("a ztunnel's stream", timeoutMs, (resolve) => (this.#onStream = resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
  }

  #serve(stream: Stream): void {
    stream.on("error", () => {}); // its process ended
    let onAck: (() => void) | null = null;
    const subscribed = new Set<string>();
    stream.on("data", (request: DeltaDiscoveryRequest) => {
      if (request.responseNonce !== "") {
        if (request.responseNonce !== "addresses") return;
        // in the order of subscription, as istiod answers
        stream.write(response(AUTHORIZATION_TYPE, []));
        onAck?.();
        return;
      }
      subscribed.add(request.typeUrl);
      if (subscribed.size < 2) return;
      this.#onStream?.({
        push: (workloads, timeoutMs) => {
          const bytes = response(ADDRESS_TYPE, meshOf(workloads));
          return withTimeout("the acknowledgement", timeoutMs, (resolve) => {
            onAck = () => resolve(undefined);
            stream.write(bytes);
          });
        },
      });
    });
  }
}

function response(typeUrl: string, resources: readonly OutgoingResource[]): Buffer {
  const nonce = typeUrl === ADDRESS_TYPE ? "addresses" : "policies";
  return encodeDeltaResponse({ typeUrl, nonce, systemVersion: "", resources, removed: [] });
}

/** Twenty pods to a service, two hundred namespaces, a node for every two hundred pods. */
function meshOf(workloads: number): OutgoingResource[] {
  const resources: OutgoingResource[] = [];
  const add = (name: string, address: Address): void =>
    void resources.push({ name, version: "1", bytes: Address.encode(address).finish() });
  for (let s = 0; s < workloads / 20; s++) {
    const namespace = `team-${s % 200}`;
    const hostname = `app-${s}.${namespace}.svc.cluster.local`;
    const value = Service.create({
      name: `app-${s}`,
      namespace,
      hostname,
      addresses: [{ network: "", address: Buffer.from([10, 96, s >> 8, s & 255]) }],
      ports: [{ servicePort: 80, targetPort: 8080, appProtocol: 0 }],
    });
    add(`${namespace}/${hostname}`, { type: { $case: "service", value } });
  }
  for (let i = 0; i < workloads; i++) {
    const service = Math.floor(i / 20);
    const namespace = `team-${service % 200}`;
    const app = `app-${service}`;
    const name = `${app}-7d9f8c6b5-${(i * 7919).toString(36).padStart(5, "x")}`;
    const value = Workload.create({
      uid: `Kubernetes//Pod/${namespace}/${name}`,
      name,
      namespace,
      addresses: [Buffer.from([10, 128 + (i >> 16), (i >> 8) & 255, i & 255])],
      tunnelProtocol: 1,
      serviceAccount: app,
      node: `node-${1 + Math.floor(i / 200)}`,
      canonicalName: app,
      canonicalRevision: "v1",
      workloadType: 2,
      workloadName: app,
      clusterId: "Kubernetes",
      locality: { region: "region", zone: `zone-${i % 3}`, subzone: "" },
      services: new Map([
        [
          `${namespace}/${app}.${namespace}.svc.cluster.local`,
          { ports: [{ servicePort: 80, targetPort: 8080, appProtocol: 0 }] },
        ],
      ]),
    });
    add(value.uid, { type: { $case: "workload", value } });
  }
  return resources;
}

function withTimeout<T>(
  what: string,
  timeoutMs: number,
  start: (resolve: (value: T) => void) => void,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const timer = setTimeout(
    () => reject(new Error(`${what}: not within ${timeoutMs} ms`)),
    timeoutMs,
  );
  start(resolve);
  return promise.finally(() => clearTimeout(timer));
}
