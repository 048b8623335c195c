// The shell texts apply.ts and host.ts are made of. One script does everything one operation needs:
// starting processes is what an ADD spends its time on.
import type { Family } from "./plan.ts";

/** Tools print English, which routes.ts reads. */
export const PROLOGUE = "export LC_ALL=C";

const FLAG: Readonly<Record<Family, string>> = { ipv4: "-4", ipv6: "-6" };

/** `command` with `text` on its standard input; nothing in `text` is expanded. */
export function feed(command: string, text: string): string {
  return `${command} <<'AMBIT_END'\n${text.endsWith("\n") ? text : `${text}\n`}AMBIT_END`;
}

/** `feed`, ending the script with `code` when the command fails. */
export function mustFeed(command: string, text: string, code: number): string {
  return feed(command, text).replace("\n", ` || exit ${code}\n`);
}

/** Sets `$lo6` to lo's `disable_ipv6`, or to `none` when the kernel has no IPv6. */
export const READ_LO6 = `lo6=none
[ -r /proc/sys/net/ipv6/conf/lo/disable_ipv6 ] && read -r lo6 </proc/sys/net/ipv6/conf/lo/disable_ipv6`;

/** Runs `ip` once over `lines`, going on after a failed one; its complaints go to stderr. */
export function ipBatch(family: Family, lines: readonly string[], json = false): string {
  return feed(`ip ${FLAG[family]}${json ? " -json" : ""} -force -batch -`, lines.join("\n"));
}

/** Starts a part of the output that `sections` finds again. */
export function section(name: string): string {
  return `echo; echo '#ambit ${name}'`;
}

/** Splits output at the marks of `section`; what comes before the first is under `""`. */
export function sections(output: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  let name = "";
  let lines: string[] = [];
  for (const line of output.split("\n")) {
    if (line.startsWith("#ambit ")) {
      found.set(name, lines.join("\n"));
      name = line.slice("#ambit ".length);
      lines = [];
    } else lines.push(line);
  }
  found.set(name, lines.join("\n"));
  return found;
}
