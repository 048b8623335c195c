// `-f` of install and manifest: a YAML mapping of the keys that --set knows.
import { readFile } from "node:fs/promises";
import { isJsonObject, type JsonObject } from "#lib/kube/json.ts";
import { CliError, fileProblem } from "../errors.ts";
import type { Io } from "../io.ts";

/**
 * The files as words of --set, in their order: later ones count.
 * @throws {CliError} BAD_INPUT, naming the file; keys nobody knows are refused as --set refuses them
 */
export async function readValues(
  files: readonly string[],
  io: Pick<Io, "stdin">,
): Promise<string[]> {
  const words: string[] = [];
  for (const file of files) words.push(...(await readOne(file, io)));
  return words;
}

async function readOne(file: string, io: Pick<Io, "stdin">): Promise<string[]> {
  const name = file === "-" ? "stdin" : file;
  const text =
    file === "-"
      ? await io.stdin()
      : await readFile(file, "utf8").catch((error: unknown) => {
          throw new CliError("BAD_INPUT", `Cannot read ${name}: ${fileProblem(error)}`, [], error);
        });
  const { parse } = await import("yaml");
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    const [line = ""] = (error as Error).message.split("\n", 1);
    throw new CliError("BAD_INPUT", `${name} is no YAML: ${line}`, [], error);
  }
  if (value === null) return [];
  if (!isJsonObject(value))
    throw new CliError("BAD_INPUT", `${name} is no mapping of settings`, [
      "for example: image: registry.example.org/ambit:1.0",
    ]);
  if (value["kind"] === "IstioOperator")
    throw new CliError("BAD_INPUT", `${name} is an IstioOperator, which ambit does not read`, [
      "keep its meshConfig: as the file's own key; other changes are a kustomization: --overlay DIR",
    ]);
  const { meshConfig, ...rest } = value;
  return [
    ...Object.entries(rest).map(
      ([key, v]) => `${key}=${typeof v === "string" ? v : JSON.stringify(v)}`,
    ),
    ...(isJsonObject(meshConfig) ? leaves(meshConfig, "meshConfig") : []),
  ];
}

/** `meshConfig.a.b=<JSON>` for each value that is no mapping itself. */
function leaves(object: JsonObject, path: string): string[] {
  return Object.entries(object).flatMap(([key, value]) =>
    isJsonObject(value) && Object.keys(value).length > 0
      ? leaves(value, `${path}.${key}`)
      : [`${path}.${key}=${JSON.stringify(value)}`],
  );
}
