// What operators are told of real traffic: who took a connection back, how long handshakes took, and that a
// client behind a policy is refused as often as it likes without losing what it may do.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { PORT } from "#lib/net/ports.ts";
import type { LabPod } from "../../lab/pod.ts";
import { labSandbox } from "../harness/lab.ts";
import {
  allow,
  AMBIENT,
  dial,
  echoLines,
  getText,
  hasPolicy,
  known,
  logLine,
  logOf,
  pod,
  sharedMesh,
  suite,
  tryAsk,
  within,
  type Service,
} from "./mesh-fixture.ts";

const needsLab = await labSandbox();
/** Well below the budget, well above what a client that retries would do meanwhile. */
const DENIED = 600;

describe("telemetry", suite(needsLab), () => {
  let client: LabPod;
  let server: LabPod;
  let echo: Service;
  after(() => echo[Symbol.asyncDispose]());
  const mesh = sharedMesh({}, async (lab) => {
    await lab.namespace("shop", AMBIENT);
    [client, server] = await Promise.all([pod(lab, "a", "client"), pod(lab, "b", "server")]);
    await known(lab, client, server);
    echo = await echoLines(server);
  });

  const metrics = (node: string): Promise<string> =>
    getText(mesh(), "ztunnel", node, PORT.ztunnelMetrics, "/metrics");

  test("a client that resets its connection is named as the one who did, and nothing has failed", async () => {
    const since = logOf(mesh(), "ztunnel", "a").length;
    const peer = await dial(client, server.ip, 8080);
    await peer.ask("hello");
    peer.socket.resetAndDestroy();
    await logLine(
      mesh(),
      "ztunnel",
      "a",
      /\tinfo\taccess\tconnection complete\t.* reason="client_reset"$/,
      since,
    );
    assert.doesNotMatch(await metrics("a"), /^istio_tcp_connections_failed_total/m);
  });

  test("handshakes are timed at both ends", async () => {
    for (const [node, role] of [
      ["a", "client"],
      ["b", "server"],
    ] as const) {
      const text = await metrics(node);
      const count = new RegExp(
        `^ambit_tunnel_handshake_seconds_count\\{role="${role}",outcome="ok"\\} (\\d+)$`,
        "m",
      ).exec(text)?.[1];
      assert.ok(Number(count) >= 1, `${node}: ${count}`);
    }
  });

  test("a client that is denied again and again keeps its tunnel and what it may do", async () => {
    await using _ = await allow(mesh(), "only-8080", {
      rules: [{ to: [{ operation: { ports: ["8080"] } }] }],
    });
    await within("the policy", () => hasPolicy(mesh(), "b", "only-8080"));
    using open = await dial(client, server.ip, 8080);
    await open.ask("before");
    for (let done = 0; done < DENIED; done += 20)
      assert.deepEqual(
        new Set(
          await Promise.all(Array.from({ length: 20 }, () => tryAsk(client, server.ip, 9_999))),
        ),
        new Set([null]),
      );
    assert.match(await open.ask("after"), /after$/);
    const denials = /^ambit_policy_denials_total\{.*reason="policy_no_allow_match".*\} (\d+)$/m;
    assert.equal(Number(denials.exec(await metrics("b"))?.[1]), DENIED);
  });
});
