// Golden files: the exact text every combination of options becomes. After an intended change run
// `UPDATE_GOLDEN=1 node --test cni/rules/render.test.ts` and read the difference.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseIptablesSave, shapeOfIptables } from "./inspect-iptables.ts";
import { planHostRules } from "./plan-host.ts";
import { planPodRules, type RulePlan } from "./plan.ts";
import { iptablesShape, renderIptables, renderIptablesRemoval } from "./render-iptables.ts";
import { nftPodShape, renderNftHost, renderNftPod, renderNftRemoval } from "./render-nft.ts";
import { routeAdditions } from "./routes.ts";
import { differences } from "./shape.ts";

const GOLDEN = join(import.meta.dirname, "golden");

function expectGolden(name: string, text: string): void {
  const file = join(GOLDEN, `${name}.txt`);
  if (process.env["UPDATE_GOLDEN"] === "1") {
    mkdirSync(GOLDEN, { recursive: true });
    writeFileSync(file, text);
  }
  assert.equal(text, readFileSync(file, "utf8"));
}

function everything(plan: RulePlan): string {
  const parts = [`# nft -f -\n${renderNftPod(plan)}`];
  for (const family of plan.families) {
    const tool = family === "ipv4" ? "iptables" : "ip6tables";
    const flag = family === "ipv4" ? "-4" : "-6";
    parts.push(
      `# ${tool}-restore --noflush\n${renderIptables(plan, family)}`,
      `# ip ${flag} -force -batch -\n${routeAdditions(family).join("\n")}\n`,
    );
  }
  return parts.join("\n");
}

const BOTH = [true, false];
for (const dnsCapture of BOTH)
  for (const ipv6 of BOTH)
    for (const bypassInbound of BOTH)
      for (const virtualInterfaces of [[], ["br0", "veth-vm.1"]]) {
        const name = [
          "pod",
          dnsCapture ? "dns" : "nodns",
          ipv6 ? "dual" : "ipv4",
          ...(bypassInbound ? ["bypass"] : []),
          ...(virtualInterfaces.length > 0 ? ["virtual"] : []),
        ].join("-");
        const plan = planPodRules({ dnsCapture, ipv6, bypassInbound, virtualInterfaces });
        test(`golden: ${name}`, () => expectGolden(name, everything(plan)));

        test(`iptables: what is written is what is looked for, ${name}`, () => {
          for (const family of plan.families) {
            // the restore's own text, in the form iptables-save prints
            const saved = renderIptables(plan, family).replaceAll(/^-N (\S+)/gm, ":$1 - [0:0]");
            const have = shapeOfIptables(parseIptablesSave(saved), family);
            assert.deepEqual(differences(iptablesShape(plan, family), have), []);
          }
        });
      }

for (const ipv6 of BOTH)
  for (const proberUid of [0, null])
    test(`golden: host, IPv6 ${ipv6}, user ${proberUid}`, () => {
      const plan = planHostRules({ ipv6, proberUid });
      const iptables = plan.families.map((f) => renderIptables(plan, f, { jumpFirst: true }));
      const name = `host-${ipv6 ? "dual" : "ipv4"}-${proberUid === null ? "any" : "kubelet"}`;
      expectGolden(name, [renderNftHost(plan), ...iptables].join("\n"));
    });

test("golden: removal", () => expectGolden("removal", renderNftRemoval()));

test("a probe address of one's own replaces the default everywhere", () => {
  const probeSource = { ipv4: "169.254.9.9", ipv6: "fd00::9" };
  const plan = planPodRules({
    dnsCapture: true,
    ipv6: true,
    bypassInbound: false,
    virtualInterfaces: [],
    probeSource,
  });
  const text = everything(plan);
  assert.equal(text.includes("169.254.7.127") || text.includes("fd16:"), false);
  assert.equal(text.match(/169\.254\.9\.9/g)?.length, 4);
  assert.equal(text.match(/fd00::9/g)?.length, 4);
});

test("an interface name that is more than a name is refused", () => {
  for (const name of ["", "eth0; reboot", 'a"b', "a b", "x".repeat(16), "-j", "a/b", "a\nb", "br+"])
    assert.throws(
      () =>
        planPodRules({
          dnsCapture: true,
          ipv6: true,
          bypassInbound: false,
          virtualInterfaces: [name],
        }),
      { code: "BAD_OPTION" },
    );
});

test("residue is taken out in the step that writes", () => {
  const plan = planPodRules({
    dnsCapture: false,
    ipv6: false,
    bypassInbound: false,
    virtualInterfaces: [],
  });
  const residue = parseIptablesSave(
    [
      "*nat",
      ":OUTPUT ACCEPT [0:0]",
      ":ISTIO_OUTPUT - [0:0]",
      ":ISTIO_OLD - [0:0]",
      "-A OUTPUT -j ISTIO_OUTPUT",
      "-A OUTPUT -p tcp -g ISTIO_OLD",
      "-A OUTPUT -j FOREIGN",
      "-A ISTIO_OUTPUT -j ISTIO_OLD",
      "COMMIT",
    ].join("\n"),
  );
  const text = renderIptables(plan, "ipv4", { residue });
  const nat = text.slice(text.indexOf("*nat"));
  assert.deepEqual(nat.split("\n").slice(1, 8), [
    "-D OUTPUT -j ISTIO_OUTPUT",
    "-D OUTPUT -p tcp -g ISTIO_OLD",
    "-F ISTIO_OUTPUT",
    "-F ISTIO_OLD",
    "-X ISTIO_OUTPUT",
    "-X ISTIO_OLD",
    "-N ISTIO_PRERT",
  ]);
  assert.equal(text.includes("FOREIGN"), false);
  assert.equal(renderIptablesRemoval(new Map()), "");
});

test("the structure of a plan names every chain once", () => {
  const plan = planPodRules({
    dnsCapture: true,
    ipv6: true,
    bypassInbound: false,
    virtualInterfaces: [],
  });
  assert.deepEqual(
    [...nftPodShape(plan).keys()],
    [
      "istio-ambient-mangle prerouting (filter prerouting -150)",
      "istio-ambient-mangle istio-prerouting",
      "istio-ambient-mangle output (route output -150)",
      "istio-ambient-mangle istio-output",
      "istio-ambient-nat prerouting (nat prerouting -100)",
      "istio-ambient-nat istio-prerouting",
      "istio-ambient-nat output (nat output -100)",
      "istio-ambient-nat istio-output",
      "istio-ambient-raw prerouting (filter prerouting -300)",
      "istio-ambient-raw istio-prerouting",
      "istio-ambient-raw output (filter output -300)",
      "istio-ambient-raw istio-output",
    ],
  );
});
