// A named network namespace, as `ip netns` keeps it below /run/netns of the sandbox.
import { closeFd, openNetns, type NetnsFd } from "#lib/sys/netns.ts";
import { LabProcess, run, type RunOptions, type RunResult, type StartOptions } from "./process.ts";

/** Owns the name; deleting it lets the namespace go once no process is left inside. */
export class Netns implements AsyncDisposable {
  readonly name: string;
  readonly #fd: NetnsFd;
  #open = true;

  private constructor(name: string, fd: NetnsFd) {
    this.name = name;
    this.#fd = fd;
  }

  /** Made with loopback up and duplicate address detection off: addresses are usable at once. */
  static async create(
    name: string,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<Netns> {
    await run(["ip", "netns", "add", name]);
    const sysctls: Record<string, string> = {
      "net/ipv6/conf/default/accept_dad": "0",
      "net/ipv6/conf/all/accept_dad": "0",
      "net/ipv6/conf/default/accept_ra": "0",
      ...settings,
    };
    const script = [
      "ip link set lo up",
      ...Object.entries(sysctls).map(
        ([key, value]) => `[ ! -e /proc/sys/${key} ] || echo ${value} >/proc/sys/${key}`,
      ),
    ].join("\n");
    await run(enterArgv(name, ["sh", "-e", "-c", script]));
    return new Netns(name, openNetns(netnsPath(name)));
  }

  get path(): string {
    return netnsPath(this.name);
  }

  /** Borrowed: for `lib/sys` calls that make a socket in here. */
  get fd(): NetnsFd {
    return this.#fd;
  }

  run(argv: readonly string[], options?: RunOptions): Promise<RunResult> {
    return run(enterArgv(this.name, argv), options);
  }

  start(argv: readonly string[], options: StartOptions): Promise<LabProcess> {
    return LabProcess.start(enterArgv(this.name, argv), options);
  }

  /** Lines for `ip -batch`, all or an error. */
  async ip(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    await run(["ip", "-n", this.name, "-batch", "-"], { input: `${lines.join("\n")}\n` });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    closeFd(this.#fd);
    await run(["ip", "netns", "delete", this.name], { allowFailure: true });
  }
}

export const netnsPath = (name: string): string => `/run/netns/${name}`;

/** `argv` inside the namespace. `nsenter` keeps our mounts, which `ip netns exec` would not. */
export function enterArgv(name: string, argv: readonly string[]): string[] {
  return ["nsenter", `--net=${netnsPath(name)}`, "--", ...argv];
}
