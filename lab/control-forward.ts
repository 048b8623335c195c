// Requests on the control socket that are meant for a part of the mesh: reads of its loopback port, streamed
// through, and the one change that is allowed from here, a ztunnel's log filter.
import type { IncomingMessage, ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { PORT } from "#lib/net/ports.ts";
import { LabError } from "./errors.ts";
import type { PartName } from "./mesh-parts.ts";
import type { Mesh, MeshPart } from "./mesh.ts";

const CONNECT_MS = 5_000;
const CNI_METRICS_PORT = 15_014;
const PORT_OF: Readonly<Record<PartName, number>> = {
  ztunnel: PORT.ztunnelAdmin,
  istiod: PORT.istiodDebug,
  cni: CNI_METRICS_PORT,
};

/** ztunnel takes 8 KiB of header; nothing asked from here comes near. */
const MAX_TARGET_CHARS = 2_048;

/** Paths that take a POST, by part. Not among them: what ends a program. */
const POST_PATHS: Readonly<Partial<Record<PartName, readonly string[]>>> = {
  ztunnel: ["/logging"],
};

/**
 * Passes `request` on without its body; the far side decides when the answer ends.
 * @param target  path and query at the part
 * @throws {LabError} `CONTROL` for a request that may not pass, `NOT_READY` when the part does not listen
 */
export async function forward(
  request: IncomingMessage,
  response: ServerResponse,
  mesh: Mesh,
  part: MeshPart,
  target: string,
): Promise<void> {
  const method = request.method === "POST" ? "POST" : "GET";
  const [path = ""] = target.split("?");
  const allowed = POST_PATHS[part.name] ?? [];
  if (method === "POST" && !allowed.includes(path)) {
    const which = allowed.length === 0 ? "nothing" : `only ${allowed.join(", ")}`;
    throw new LabError(
      "CONTROL",
      `POST ${path} is not forwarded: ${part.name} takes ${which} here`,
    );
  }
  if (target.length > MAX_TARGET_CHARS)
    throw new LabError("CONTROL", `Path and query over ${MAX_TARGET_CHARS} characters`);
  request.resume();
  const upstream = await mesh.request(part, PORT_OF[part.name], target, CONNECT_MS, method);
  response.once("close", () => upstream.destroy());
  response.writeHead(upstream.statusCode ?? 502, {
    "content-type": upstream.headers["content-type"] ?? "application/octet-stream",
  });
  await pipeline(upstream, response).catch(() => {}); // either side may leave
}
