// A thread of node proxies' streams that only count and acknowledge: they cost a server what real ones do,
// and this machine little more than the bytes.
import { Client } from "@grpc/grpc-js";
import { readFileSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { callMetadata } from "#lib/grpc/call-metadata.ts";
import { channelParts } from "#lib/grpc/channel.ts";
import type { IncomingResponse } from "#lib/grpc/delta-messages.ts";
import { deltaClientMethod } from "#lib/grpc/services.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "#lib/xds/type-urls.ts";

export interface StreamsData {
  readonly port: number;
  readonly hostname: string;
  readonly rootFile: string;
  readonly token: string;
  readonly streams: number;
  /** A stream is complete when it holds at least so many addresses. */
  readonly resources: number;
}

export interface StreamsSaid {
  /** All streams are complete; all have heard of one more change; a stream broke. */
  readonly what: "complete" | "changed" | "failed";
  /** ms since the epoch */
  readonly at: number;
  /** Of a change: when the first stream heard of it. */
  readonly firstAt: number;
}

const data = workerData as StreamsData;
let complete = 0;
let changed = 0;
let firstAt = 0;
const now = (): number => performance.timeOrigin + performance.now();
const say = (what: StreamsSaid["what"]): void =>
  parentPort?.postMessage({ what, at: now(), firstAt } satisfies StreamsSaid);

const metadata = await callMetadata({ token: async () => data.token, clusterId: "Kubernetes" });
const rootCert = readFileSync(data.rootFile);
for (let i = 0; i < data.streams; i++) open(i);

function open(index: number): void {
  const parts = channelParts({
    address: { host: "127.0.0.1", port: data.port },
    altHostname: data.hostname,
    rootCert,
  });
  const { path, requestSerialize, responseDeserialize } = deltaClientMethod;
  const stream = new Client(parts.target, parts.credentials, parts.options).makeBidiStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    metadata,
  );
  const request = (typeUrl: string, responseNonce = "") => ({
    node: {
      id: `ztunnel~10.0.0.1~ztunnel-${index}.istio-system~istio-system.svc.cluster.local`,
      cluster: "",
    },
    typeUrl,
    resourceNamesSubscribe: [],
    resourceNamesUnsubscribe: [],
    initialResourceVersions: new Map<string, string>(),
    responseNonce,
  });
  let held = 0;
  stream.on("error", () => say("failed"));
  stream.on("data", (response: IncomingResponse) => {
    stream.write(request(response.typeUrl, response.nonce));
    if (response.typeUrl !== ADDRESS_TYPE) return;
    const wasComplete = held >= data.resources;
    held += response.resources.length;
    if (wasComplete) {
      if (changed % data.streams === 0) firstAt = now();
      if (++changed % data.streams === 0) say("changed");
    } else if (held >= data.resources && ++complete === data.streams) say("complete");
  });
  stream.write(request(ADDRESS_TYPE));
  stream.write(request(AUTHORIZATION_TYPE));
}
