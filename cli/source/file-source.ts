// A saved document as a mesh: a ztunnel's config dump, several of them, a list of tunnels, or events.
import { readFile } from "node:fs/promises";
import { CliError, fileProblem } from "../errors.ts";
import type { Io } from "../io.ts";
import { looksLikeConfigDump } from "./config-dump.ts";
import { parseJson, type Json } from "./json.ts";
import type { AdminPath, MeshSource } from "./mesh-source.ts";

/** A dump larger than this is no dump of ours: 100 k workloads are about 90 MB. */
const MAX_CHARS = 400_000_000;

/** Reads `file` (`-`: stdin) once. @throws {CliError} BAD_INPUT */
export async function openFileSource(file: string, io: Io): Promise<MeshSource> {
  const where = file === "-" ? "stdin" : file;
  const content = file === "-" ? await io.stdin() : await readText(file);
  if (content.length > MAX_CHARS)
    throw new CliError("BAD_INPUT", `${where} is larger than ${MAX_CHARS} characters`);
  return new FileSource(where, content);
}

class FileSource implements MeshSource {
  readonly name: string;
  readonly confidence = "snapshot";
  readonly statusCommand = "ambit zc all -f FILE";
  readonly #text: string;
  #parsed: Map<string, Json> | null = null;

  constructor(name: string, text: string) {
    this.name = name;
    this.#text = text;
  }

  async nodes(): Promise<readonly string[]> {
    return [...this.#documents().keys()];
  }

  async fetch(node: string, path: AdminPath): Promise<Json> {
    const document = this.#documents().get(node);
    if (document === undefined) throw new CliError("NOT_FOUND", `${this.name} has no node ${node}`);
    const isList = document.object()["kind"] === "TunnelList";
    if (path === "/ambit/tunnels" && !isList)
      throw this.#unsuitable("a list of tunnels", "ambit tunnels -o json");
    if (path === "/config_dump" && (isList || !looksLikeConfigDump(document)))
      throw this.#unsuitable("a ztunnel config dump", "ambit ztunnel-config all -o json");
    return document;
  }

  async *lines(): AsyncIterable<string> {
    for (const line of this.#text.split("\n")) if (line.trim() !== "") yield line;
  }

  /** One document per node. A single dump is a node of its own. */
  #documents(): Map<string, Json> {
    if (this.#parsed !== null) return this.#parsed;
    const json = parseJson(this.#text, this.name);
    const documents = new Map<string, Json>();
    if (json.object()["kind"] === "ConfigDumpList")
      for (const item of json.at("items").list())
        documents.set(item.at("node").text("?"), item.at("dump"));
    else documents.set(nodeName(json), json);
    if (documents.size === 0)
      throw new CliError("BAD_INPUT", `${this.name} holds no config dump: items is empty`);
    this.#parsed = documents;
    return documents;
  }

  #unsuitable(expected: string, command: string): CliError {
    return new CliError("BAD_INPUT", `${this.name} is not ${expected}`, [
      `make one with: ${command} > FILE`,
    ]);
  }
}

/** Ours and Istio's dumps carry the configuration, and in it the node. */
function nodeName(json: Json): string {
  const config = json.object()["config"];
  if (typeof config !== "object" || config === null) return "file";
  for (const key of ["localNode", "nodeName", "node"]) {
    const name = (config as Record<string, unknown>)[key];
    if (typeof name === "string" && name !== "") return name;
  }
  return "file";
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new CliError("BAD_INPUT", `Cannot read ${file}: ${fileProblem(error)}`, [], error);
  }
}
