// A node's directories and an image's, in a temporary directory, for the installer's tests.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SettingReader } from "../setting-reader.ts";
import { readInstallConfig, type InstallConfig } from "./config.ts";

export class TestNodeDirs implements Disposable {
  readonly root = mkdtempSync(join(tmpdir(), "cni-install-"));

  constructor() {
    for (const dir of ["image", "bin", "net.d", "run", "sa"]) mkdirSync(this.path(dir));
    writeFileSync(this.path("image/istio-cni"), "#!/bin/sh\necho one\n", { mode: 0o755 });
    this.token("token-1");
    writeFileSync(this.path("sa/ca.crt"), "PEM");
  }

  path(name: string): string {
    return join(this.root, name);
  }

  token(text: string): void {
    writeFileSync(this.path("sa/token"), text);
  }

  config(env: Readonly<Record<string, string>> = {}): InstallConfig {
    const reader = new SettingReader({
      CNI_BIN_SOURCE_DIR: this.path("image"),
      MOUNTED_CNI_BIN_DIR: this.path("bin"),
      MOUNTED_CNI_NET_DIR: this.path("net.d"),
      SERVICE_ACCOUNT_DIR: this.path("sa"),
      KUBERNETES_SERVICE_HOST: "fd00:96::1",
      KUBERNETES_SERVICE_PORT: "6443",
      ...env,
    });
    const config = readInstallConfig(reader, {
      runDir: this.path("run"),
      selectors: [{ podSelector: { matchLabels: { a: "b" } } }],
      excludeNamespaces: ["kube-system"],
    });
    if (reader.faults.length > 0) throw new Error(reader.faults.join("; "));
    return config;
  }

  write(name: string, content: unknown, mode = 0o644): void {
    const text = typeof content === "string" ? content : `${JSON.stringify(content)}\n`;
    writeFileSync(this.path(name), text);
    chmodSync(this.path(name), mode);
  }

  read(name: string): string | null {
    return existsSync(this.path(name)) ? readFileSync(this.path(name), "utf8") : null;
  }

  /** Types of the plugins in a list; `null` when there is none. */
  chain(name: string): readonly string[] | null {
    const text = this.read(`net.d/${name}`);
    if (text === null) return null;
    const { plugins } = JSON.parse(text) as { plugins?: readonly { readonly type: string }[] };
    return plugins?.map((plugin) => plugin.type) ?? null;
  }

  mode(name: string): number {
    return statSync(this.path(name)).mode & 0o777;
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}
