// The contents of `lab.json` for a running lab.
import { join } from "node:path";
import { CONTROL_HOST, linkAddresses } from "./address-plan.ts";
import type { Lab } from "./lab.ts";
import { sandbox } from "./sandbox.ts";
import type { LabState } from "./state.ts";

export function describeLab(lab: Lab): LabState {
  const pid = sandbox()?.outerPid ?? 0;
  return {
    version: 1,
    sandboxPid: pid,
    userNamespace: process.env["AMBIT_SANDBOX_USERNS"] === "1",
    startedAt: new Date().toISOString(),
    manifestDir: lab.manifestDir,
    controlSocket: join(lab.dir, "control.sock"),
    istiod: {
      address: linkAddresses(CONTROL_HOST, lab.families)[0] ?? "",
      log: lab.mesh.part("istiod").logFile,
    },
    nodes: lab.nodes.map((node) => ({
      name: node.name,
      netnsPath: node.netns.path,
      outerNetnsPath: `/proc/${pid}/root${node.netns.path}`,
      pid,
      addresses: node.addresses,
      podCidrs: node.podCidrs,
      ztunnelAdmin: `/nodes/${node.name}/ztunnel`,
      logs: {
        ztunnel: lab.mesh.part("ztunnel", node.name).logFile,
        cni: lab.mesh.part("cni", node.name).logFile,
      },
    })),
  };
}
