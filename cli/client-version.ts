// The version in the package that this program was installed with.
import { readFileSync } from "node:fs";

export function clientVersion(): string {
  const pkg = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
    readonly version: string;
  };
  return pkg.version;
}
