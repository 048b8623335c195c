// Finds a running lab: `lab.json` in its state directory.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { defaultStateDir } from "../../lab/state.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import { parseJson, type Json } from "./json.ts";

export interface LabNode {
  readonly name: string;
  /** Path of its ztunnel's admin port on the control socket. */
  readonly ztunnelAdmin: string;
}

export interface LabState {
  readonly dir: string;
  readonly manifestDir: string;
  /** Unix socket that forwards HTTP to the ztunnels' admin ports. */
  readonly controlSocket: string;
  readonly nodes: readonly LabNode[];
}

/** @throws {CliError} UNREACHABLE when no lab runs there, BAD_INPUT for a file that is not a lab's */
export async function readLabState(
  dir: string | undefined,
  io: Pick<Io, "env">,
): Promise<LabState> {
  const place = dir ?? defaultStateDir(io.env);
  const file = join(place, "lab.json");
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new CliError("UNREACHABLE", `No lab is running (no ${file})`, [
        "start one with: ambit lab up",
        "or read a saved dump with: -f FILE",
      ]);
    throw new CliError("UNREACHABLE", `Cannot read ${file}: ${code}`, [
      "a lab started by root or another user is theirs: run ambit as that user",
    ]);
  }
  return parseLabState(parseJson(text, file), place);
}

function parseLabState(json: Json, dir: string): LabState {
  const admin = (n: Json): string =>
    n.at("ztunnelAdmin").text(`/nodes/${encodeURIComponent(n.at("name").text())}/ztunnel`);
  return {
    dir,
    manifestDir: json.at("manifestDir").text(join(dir, "manifests")),
    controlSocket: json.at("controlSocket").text(join(dir, "control.sock")),
    nodes: json
      .at("nodes")
      .list()
      .map((n) => ({ name: n.at("name").text(), ztunnelAdmin: admin(n).replace(/\/$/, "") })),
  };
}
