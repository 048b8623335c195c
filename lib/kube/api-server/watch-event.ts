// One line of a watch as a value.
import { KubeError, type KubeErrorCode } from "../errors.ts";
import { isJsonObject, type JsonObject, textOf } from "../json.ts";

export type WatchLine =
  | { readonly type: "put" | "deleted"; readonly object: JsonObject }
  /** Nothing happened up to this version. */
  | { readonly type: "bookmark"; readonly version: string }
  /** The server gives up: 410 when the version to start from is no longer kept. */
  | { readonly type: "error"; readonly error: KubeError };

/** @throws {KubeError} `UNAVAILABLE` for what is no event of a watch */
export function parseWatchLine(line: string): WatchLine {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch (cause) {
    throw new KubeError("UNAVAILABLE", "The watch sent a line that is no JSON", { cause });
  }
  const object = isJsonObject(event) ? event.object : undefined;
  if (!isJsonObject(event) || !isJsonObject(object))
    throw new KubeError("UNAVAILABLE", "The watch sent a line that is no event");
  switch (textOf(event.type)) {
    case "ADDED":
    case "MODIFIED":
      return { type: "put", object };
    case "DELETED":
      return { type: "deleted", object };
    case "BOOKMARK":
      return { type: "bookmark", version: versionOf(object) };
    case "ERROR": {
      const status = typeof object.code === "number" ? object.code : 0;
      const code: KubeErrorCode = status === 410 ? "EXPIRED" : "UNAVAILABLE";
      const message = `The watch ended: ${textOf(object.message) || textOf(object.reason) || status}`;
      return { type: "error", error: new KubeError(code, message, { status }) };
    }
    default:
      throw new KubeError(
        "UNAVAILABLE",
        `The watch sent an event of type ${JSON.stringify(event.type)}`,
      );
  }
}

/** `metadata.resourceVersion`; "" when it has none. */
export function versionOf({ metadata }: JsonObject): string {
  return isJsonObject(metadata) ? textOf(metadata.resourceVersion) : "";
}
