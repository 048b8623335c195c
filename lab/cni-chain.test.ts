import assert from "node:assert/strict";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CniChain, type CniAttachment } from "./cni-chain.ts";

/**
 * A fake plugin that notes how it was called and answers with its prevResult plus its own mark.
 * `nsenter` is replaced as well, so that no namespace is needed.
 */
const PLUGIN = `#!/bin/sh
input=$(cat)
echo "$(basename "$0") $CNI_COMMAND $CNI_IFNAME $CNI_NETNS $CNI_ARGS $input" >>"$CALLS"
case "$(basename "$0") $CNI_COMMAND" in
  "broken ADD") echo '{"code": 11, "msg": "try later", "details": "no agent"}'; exit 1 ;;
  *" ADD") echo "{\\"cniVersion\\":\\"1.0.0\\",\\"by\\":\\"$(basename "$0")\\",\\"ips\\":[{\\"address\\":\\"10.0.0.2/24\\"}]}" ;;
esac
`;

interface Fixture extends Disposable {
  readonly chain: CniChain;
  readonly cacheDir: string;
  configure(file: string, content: unknown): void;
  calls(): string[];
}

function fixture(): Fixture {
  const dir = mkdtempSync(join(tmpdir(), "ambit-cni-"));
  const [bin, configDir, cacheDir, tools] = ["bin", "net.d", "cache", "tools"].map((d) =>
    join(dir, d),
  ) as [string, string, string, string];
  for (const d of [bin, configDir, tools]) mkdirSync(d);
  const executable = (path: string, text: string): void => {
    writeFileSync(path, text);
    chmodSync(path, 0o755);
  };
  for (const name of ["loopback", "first", "second", "broken"]) executable(join(bin, name), PLUGIN);
  executable(join(tools, "nsenter"), '#!/bin/sh\nshift 2\nexec "$@"\n');
  const calls = join(dir, "calls");
  const path = process.env["PATH"];
  process.env["PATH"] = `${tools}:${path}`;
  process.env["CALLS"] = calls;
  writeFileSync(calls, "");
  return {
    chain: new CniChain({ netns: "none", configDir, binDirs: [bin], cacheDir }),
    cacheDir,
    configure: (file, content) =>
      writeFileSync(
        join(configDir, file),
        typeof content === "string" ? content : JSON.stringify(content),
      ),
    calls: () =>
      readFileSync(calls, "utf8")
        .trim()
        .split("\n")
        .filter((l) => l !== ""),
    [Symbol.dispose]: () => {
      process.env["PATH"] = path;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

const ATTACHMENT: CniAttachment = {
  containerId: "c1",
  netnsPath: "/run/netns/c1",
  podName: "client",
  podNamespace: "shop",
  podUid: "uid-1",
};
const list = (...types: string[]): unknown => ({
  cniVersion: "1.0.0",
  name: "net",
  plugins: types.map((type) => ({ type, own: type })),
});
const words = (line: string): string => line.split(" ").slice(0, 3).join(" ");

test("chain: ADD in order with each result handed on, CHECK in order, DEL in reverse", async () => {
  using f = fixture();
  f.configure("10.conflist", list("first", "second"));
  const result = await f.chain.add(ATTACHMENT);
  assert.equal(result["by"], "second");
  await f.chain.check(ATTACHMENT);
  await f.chain.delete(ATTACHMENT);
  assert.deepEqual(f.calls().map(words), [
    "loopback ADD lo",
    "first ADD eth0",
    "second ADD eth0",
    "loopback CHECK lo",
    "first CHECK eth0",
    "second CHECK eth0",
    "second DEL eth0",
    "first DEL eth0",
    "loopback DEL lo",
  ]);
  const [, first = "", second = ""] = f.calls();
  assert.ok(!first.includes("prevResult"));
  assert.match(
    second,
    /"own":"second","cniVersion":"1.0.0","name":"net","prevResult":\{[^}]*"by":"first"/,
  );
  assert.match(
    first,
    / \/run\/netns\/c1 IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=client;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=uid-1 /,
  );
  assert.deepEqual(readdirSync(f.cacheDir), []);
});

test("chain: a refusing plugin undoes the ones before it and is quoted", async () => {
  using f = fixture();
  f.configure("10.conflist", list("first", "broken"));
  await assert.rejects(
    f.chain.add(ATTACHMENT),
    /ADD of plugin broken for shop\/client: try later; no agent \(code 11\)/,
  );
  assert.deepEqual(f.calls().slice(3).map(words), [
    "broken DEL eth0",
    "first DEL eth0",
    "loopback DEL lo",
  ]);
});

test("chain: DEL uses the configuration of its ADD, and is harmless without one", async () => {
  using f = fixture();
  f.configure("10.conflist", list("first"));
  await f.chain.add(ATTACHMENT);
  f.configure("10.conflist", list("second"));
  await f.chain.delete(ATTACHMENT);
  await f.chain.delete(ATTACHMENT);
  assert.deepEqual(f.calls().slice(2).map(words), ["first DEL eth0", "loopback DEL lo"]);
});

for (const c of [
  {
    name: "the first file by name",
    files: { "20.conflist": list("second"), "10.conflist": list("first") },
    want: "first",
  },
  {
    name: "a single plugin's file as a list of one",
    files: { "05.conf": { cniVersion: "0.3.1", name: "n", type: "second" } },
    want: "second",
  },
  {
    name: "unreadable and empty files are skipped",
    files: {
      "00.conflist": "{",
      "01.conflist": list(),
      "02.txt": "x",
      "10.conflist": list("first"),
    },
    want: "first",
  },
])
  test(`chain: ${c.name}`, async () => {
    using f = fixture();
    for (const [file, content] of Object.entries(c.files)) f.configure(file, content);
    assert.equal((await f.chain.readConfig()).plugins[0]?.type, c.want);
  });

test("chain: no configuration is an error, as on a node whose network is not ready", async () => {
  using f = fixture();
  await assert.rejects(f.chain.add(ATTACHMENT), /No network configuration/);
});
