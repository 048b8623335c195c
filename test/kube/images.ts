// The images of a test cluster: the sandbox's pause program, a workload with a shell and Node, and
// Ambit's own image as the Dockerfile would make it, with this machine's programs.
import { existsSync, globSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../lab/process.ts";
import { onPath } from "./binaries.ts";
import { cachePlace, fillOnce } from "./cache.ts";
import { file, folder, libraries, program } from "./image-files.ts";
import { textFile, writeImage, type ImageSpec } from "./image.ts";
import type { TarEntry } from "./tar.ts";

const ROOT = join(import.meta.dirname, "../..");
const LIBRARY_DIR = "usr/lib/*-linux-gnu";

export const PAUSE_IMAGE = "ambit.test/pause:1";
/** busybox alone: a shell, `wget`, `nc`, `httpd`. */
export const BUSYBOX_IMAGE = "ambit.test/busybox:1";
/** busybox, Node, and the lab's workloads in /workloads: `node /workloads/echo-server.ts --port=8080`. */
export const WORKLOAD_IMAGE = "ambit.test/workload:1";
export const AMBIT_IMAGE = "ambit:dev";
/** What the Dockerfile's image has, as programs; for the rest of Debian there is busybox. */
const AMBIT_PROGRAMS = [
  "dash",
  ...["ip", "nft", "ipset"],
  ...["iptables", "iptables-save", "iptables-restore", "iptables-nft", "iptables-legacy"],
  ...[
    "iptables-nft-save",
    "iptables-nft-restore",
    "iptables-legacy-save",
    "iptables-legacy-restore",
  ],
  ...["ip6tables", "ip6tables-save", "ip6tables-restore", "ip6tables-nft", "ip6tables-legacy"],
  ...["ip6tables-nft-save", "ip6tables-nft-restore"],
  ...["ip6tables-legacy-save", "ip6tables-legacy-restore"],
] as const;

/** What `image/build.ts` reads. */
const AMBIT_SOURCES = [
  ...["lib", "istiod", "ztunnel", "waypoint", "cni", "image"],
  ...["package.json", "package-lock.json", "LICENSE"],
];
/** 150 MB and more, a new one with each change of the sources. */
const UNUSED_MS = 3_600_000;
const WRITERS = ["images.ts", "image.ts", "image-files.ts", "tar.ts"].map((name) =>
  join(import.meta.dirname, name),
);

/** Small, and the same for every cluster. */
export async function writeBusyboxImages(dir: string): Promise<string[]> {
  const files = await busybox();
  return await Promise.all([
    // as process 1 a shell that waits would ignore the signal to end
    image(dir, { name: PAUSE_IMAGE, files, entrypoint: ["/bin/sleep", "2147483647"] }),
    image(dir, { name: BUSYBOX_IMAGE, files, command: ["/bin/sh"] }),
  ]);
}

export async function workloadImage(): Promise<string> {
  const node = process.execPath;
  const inputs = [node, join(ROOT, "lab/workloads"), ...WRITERS];
  return await cached(WORKLOAD_IMAGE, inputs, async (dir) => {
    const files = [
      ...(await busybox()),
      file(node, "usr/local/bin/node"),
      ...(await libraries([node])),
      ...folder(join(ROOT, "lab/workloads"), "workloads"),
      textFile("workloads/package.json", '{"type":"module"}\n'),
    ];
    await image(dir, { name: WORKLOAD_IMAGE, files, command: ["/bin/sh"] });
  });
}

/** Needs nothing but this working copy and the Debian packages of `make deps`. */
export async function ambitImage(): Promise<string> {
  const programs = AMBIT_PROGRAMS.map((name) => onPath(name, "make deps"));
  const sources = AMBIT_SOURCES.map((name) => join(ROOT, name));
  return await cached(AMBIT_IMAGE, [...sources, ...programs, ...WRITERS], async (dir) => {
    const tree = join(dir, "tree");
    const builder = join(ROOT, "image/build.ts");
    await run([process.execPath, builder, tree], { timeoutMs: 180_000 });
    const extensions = globSync(`/${LIBRARY_DIR}/xtables/*.so`);
    const natives = globSync(`${tree}/opt/ambit/**/*.node`);
    const executables = [join(tree, "opt/ambit/bin/node"), ...natives];
    const files = [
      ...(await busybox()),
      // busybox's shell would run its own `ip` before any on the path
      { kind: "link", path: "bin/sh", target: "dash" } as const,
      ...programs.flatMap(program),
      ...extensions.map((path) => file(path)),
      ...(await libraries([...programs, ...extensions, ...executables], tree)),
      ...iptablesData(),
      ...folder(tree, ""),
    ];
    const entrypoint = ["/opt/ambit/bin/ambit-part"];
    await image(dir, { name: AMBIT_IMAGE, files, entrypoint, user: "65532:65532" });
    rmSync(tree, { recursive: true });
  });
}

/** From the cache, or made there: `inputs` are the files and folders it is made of. */
async function cached(
  name: string,
  inputs: readonly string[],
  write: (dir: string) => Promise<void>,
): Promise<string> {
  const place = cachePlace(`image-${fileName(name)}`, ...inputs.flatMap(fingerprints));
  await fillOnce(place, write, UNUSED_MS);
  return join(place, `${fileName(name)}.tar`);
}

/** Of a source its content; of a program, or anything else large, its size and time. */
function fingerprints(path: string): string[] {
  const stat = statSync(path);
  if (stat.isDirectory())
    return readdirSync(path)
      .toSorted()
      .filter((name) => !/\.test\.ts$|\.md$/.test(name))
      .flatMap((name) => fingerprints(join(path, name)));
  if (stat.size > 1 << 20 || stat.mode & 0o111) return [path, `${stat.size} ${stat.mtimeMs}`];
  return [path, readFileSync(path, "utf8")];
}

const fileName = (image: string): string => image.replaceAll(/[^a-z0-9]+/g, "-");

async function image(dir: string, spec: ImageSpec): Promise<string> {
  const path = join(dir, `${fileName(spec.name)}.tar`);
  await writeImage(path, spec);
  return path;
}

/** A root with a shell. */
async function busybox(): Promise<TarEntry[]> {
  const path = onPath("busybox", "Debian package busybox-static; make kube-deps");
  const { stdout } = await run([path, "--list"]);
  const applets = stdout.split("\n").filter((name) => name !== "" && name !== "busybox");
  return [
    file(path, "bin/busybox"),
    ...applets.map(
      (name): TarEntry => ({ kind: "link", path: `bin/${name}`, target: "/bin/busybox" }),
    ),
    textFile("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    textFile("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    textFile("etc/nsswitch.conf", "hosts: files dns\n"),
    { kind: "dir", path: "tmp", mode: 0o1777 },
    ...["proc", "sys", "dev", "run", "var"].map((name): TarEntry => ({ kind: "dir", path: name })),
    { kind: "link", path: "var/run", target: "/run" },
  ];
}

/** iptables translates protocol names, and nft map names, with these. */
function iptablesData(): TarEntry[] {
  return ["/etc/protocols", "/etc/services", "/etc/ethertypes", "/etc/iproute2/rt_protos"]
    .filter((path) => existsSync(path))
    .map((path) => file(path));
}
