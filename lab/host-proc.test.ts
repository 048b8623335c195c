import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HostProc } from "./host-proc.ts";

test("host procfs: a pod's process can be found by control group, and goes", async () => {
  const dir = mkdtempSync(join(tmpdir(), "ambit-proc-"));
  try {
    const proc = await HostProc.create(dir, "/run/netns/node-a");
    const uid = "0f8b9f5e-0000-4000-8000-00000000abcd";
    const forget = await proc.addPod(uid, "c0ffee", "/run/netns/pod");
    const [init, kubelet, pod] = readdirSync(dir).sort((a, b) => Number(a) - Number(b));
    assert.equal(readlinkSync(join(dir, init ?? "", "ns", "net")), "/run/netns/node-a");
    assert.match(readFileSync(join(dir, kubelet ?? "", "comm"), "utf8"), /^kubelet\n/);
    assert.match(readFileSync(join(dir, kubelet ?? "", "status"), "utf8"), /^Uid:\t0\t/m);
    const at = join(dir, pod ?? "");
    assert.equal(readlinkSync(join(at, "ns", "net")), "/run/netns/pod");
    assert.ok(
      readFileSync(join(at, "cgroup"), "utf8").includes(
        `pod${uid.replaceAll("-", "_")}.slice/cri-containerd-c0ffee.scope`,
      ),
    );
    const fields = readFileSync(join(at, "stat"), "utf8").split(") ")[1]?.split(" ") ?? [];
    assert.equal(fields[19], pod, "start time, field 22");
    await forget();
    assert.equal(readdirSync(dir).length, 2);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
