// Archives and images of test clusters, read back by the system's tar.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { run } from "../../../lab/process.ts";
import { textFile, writeImage } from "../image.ts";
import { tarParts } from "../tar.ts";
import { TempDir } from "../temp-dir.ts";

const LONG = `${"directory/".repeat(12)}${"name".repeat(20)}`;

test("tar reads back files, links, modes and long paths", async () => {
  using dir = TempDir.create("ambit-kube-test");
  const archive = dir.file("a.tar");
  writeFileSync(
    archive,
    Buffer.concat([
      ...tarParts([
        { kind: "dir", path: "tmp", mode: 0o1777 },
        textFile("tmp/odd-size", "x".repeat(513), 0o640),
        textFile(LONG, "deep"),
        { kind: "link", path: "link", target: "tmp/odd-size" },
      ]),
    ]),
  );
  const { stdout } = await run(["tar", "-tvf", archive, "--numeric-owner"]);
  assert.match(stdout, /^drwxrwxrwt 0\/0 .* tmp\/$/m);
  assert.match(stdout, /^-rw-r----- 0\/0 +513 .* tmp\/odd-size$/m);
  assert.match(stdout, /link -> tmp\/odd-size$/m);
  assert.equal((await run(["tar", "-xOf", archive, LONG])).stdout, "deep");
});

test("a path no archive can hold is refused", () => {
  const path = "x".repeat(101);
  assert.throws(() => [...tarParts([textFile(path, "")])], /too long/);
});

test("an image names its layer by digest, and its root is merged as Debian's", async () => {
  using dir = TempDir.create("ambit-kube-test");
  const files = [textFile("bin/tool", "old"), textFile("usr/bin/tool", "new", 0o755)];
  const spec = { name: "ambit.test/x:1", files, entrypoint: ["/bin/tool"], user: "1:1" };
  const [file, again] = [dir.file("x.tar"), dir.file("y.tar")];
  await writeImage(file, spec);
  await writeImage(again, spec);
  const part = async (name: string): Promise<string> =>
    (await run(["tar", "-xOf", file, name])).stdout;
  const [manifest] = JSON.parse(await part("manifest.json")) as [
    { Config: string; RepoTags: string[]; Layers: string[] },
  ];
  assert.deepEqual(manifest.RepoTags, ["ambit.test/x:1"]);
  const config = JSON.parse(await part(manifest.Config)) as {
    config: { Entrypoint: string[]; User: string };
    rootfs: { diff_ids: string[] };
  };
  assert.deepEqual([config.config.Entrypoint, config.config.User], [["/bin/tool"], "1:1"]);
  await run(["tar", "-xf", file, "-C", dir.path]);
  const layer = await run(["sha256sum", dir.file("layer.tar")]);
  assert.equal(config.rootfs.diff_ids[0], `sha256:${layer.stdout.split(" ")[0]}`);
  assert.equal((await run(["tar", "-xOf", dir.file("layer.tar"), "usr/bin/tool"])).stdout, "new");
  const sums = await run(["sha256sum", file, again]);
  const [first, second] = sums.stdout
    .trim()
    .split("\n")
    .map((line) => line.split(" ")[0]);
  assert.equal(first, second, "the same content gives the same bytes");
});
