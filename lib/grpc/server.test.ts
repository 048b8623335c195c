// A server whose certificate changes, and the certificate client that follows the roots.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { testCa, testPair } from "../pki/test-ca.ts";
import { CaClient, type CaClientOptions } from "./ca-client.ts";
import { GrpcError } from "./errors.ts";
import { GrpcServer } from "./server.ts";
import { createCertificateMethod } from "./services.ts";

const TIMEOUT = { timeout: 10_000 };
const NAME = "istiod.istio-system.svc";
const ORDER = { csrPem: "csr", ttlSeconds: 60 };

async function serving(t: TestContext, chain: string[] = ["leaf", "root"]) {
  const ca = await testCa();
  const server = new GrpcServer(await testPair(ca, [NAME]));
  const seen: { clusterId: unknown; authorization: unknown; request: unknown }[] = [];
  server.handleUnary(createCertificateMethod, async (request, call) => {
    const [clusterId] = call.metadata.get("clusterid");
    const [authorization] = call.metadata.get("authorization");
    seen.push({ clusterId, authorization, request });
    if (request.csr === "bad") throw new GrpcError("INVALID_ARGUMENT", "CSR signing error (x)");
    if (request.csr === "hang") await new Promise(() => {});
    return { certChain: chain };
  });
  const port = await server.listen("127.0.0.1:0");
  t.after(() => server.close());
  const client = (options: Partial<CaClientOptions> = {}): CaClient => {
    const made = new CaClient({
      address: `127.0.0.1:${port}`,
      altHostname: NAME,
      rootCert: async () => Buffer.from(ca.rootPem),
      token: async () => "tok",
      clusterId: "east",
      ...options,
    });
    t.after(() => made[Symbol.dispose]());
    return made;
  };
  return { ca, server, seen, client };
}

test("a call carries token, cluster and the identity asked for", TIMEOUT, async (t) => {
  const { client, seen } = await serving(t);
  const order = { ...ORDER, impersonate: "spiffe://td/ns/n/sa/a" };
  assert.deepEqual(await client().createCertificate(order), ["leaf", "root"]);
  assert.deepEqual(seen, [
    {
      clusterId: "east",
      authorization: "Bearer tok",
      request: {
        csr: "csr",
        validityDuration: 60,
        metadata: { ImpersonatedIdentity: "spiffe://td/ns/n/sa/a" },
      },
    },
  ]);
});

test("an answer without a root is an error", TIMEOUT, async (t) => {
  const { client } = await serving(t, ["leaf"]);
  await assert.rejects(client().createCertificate(ORDER), { code: "DATA_LOSS" });
});

test("the server's status reaches the caller", TIMEOUT, async (t) => {
  const { client } = await serving(t);
  await assert.rejects(client().createCertificate({ ...ORDER, csrPem: "bad" }), {
    code: "INVALID_ARGUMENT",
    details: "CSR signing error (x)",
  });
});

test("calls end by signal and by deadline", TIMEOUT, async (t) => {
  const { client } = await serving(t);
  const hang = { ...ORDER, csrPem: "hang" };
  const stop = new AbortController();
  const call = client().createCertificate(hang, stop.signal);
  stop.abort();
  await assert.rejects(call, { code: "CANCELLED" });
  await assert.rejects(client({ timeoutMs: 50 }).createCertificate(hang), {
    code: "DEADLINE_EXCEEDED",
  });
});

test("a token with a newline is refused here", TIMEOUT, async (t) => {
  const { client } = await serving(t);
  await assert.rejects(client({ token: async () => "tok\n" }).createCertificate(ORDER), {
    code: "UNAUTHENTICATED",
    details: /newline/,
  });
});

test(
  "new roots make a new channel; roots that cannot be read keep the old one",
  TIMEOUT,
  async (t) => {
    const { client, ca, server } = await serving(t);
    const other = await testCa();
    let roots: string | null = other.rootPem;
    const under = client({
      rootCert: async () => {
        if (roots === null) throw new Error("gone");
        return Buffer.from(roots);
      },
    });
    await assert.rejects(under.createCertificate(ORDER), { code: "UNAVAILABLE" });
    roots = ca.rootPem;
    await under.createCertificate(ORDER);
    roots = null;
    await under.createCertificate(ORDER);
    server.setCertificate(await testPair(other, [NAME]));
    await under.createCertificate(ORDER); // the connection in progress goes on
    await assert.rejects(client().createCertificate(ORDER), { code: "UNAVAILABLE" });
    roots = other.rootPem;
    await under.createCertificate(ORDER);
  },
);
