// The lab's control socket: HTTP over a unix socket in the state directory, for `ambit lab …` and whoever
// else has to drive a running lab from another process.
//
//   GET    /status                          nodes, pods, parts, link
//   GET    /nodes/<node>/ztunnel/<path>     the ztunnel's admin port, streamed through
//   POST   /nodes/<node>/ztunnel/logging    its log filter, by query
//   GET    /nodes/<node>/cni/<path>         the agent's metrics port
//   GET    /istiod/<path>                   istiod's monitoring port
//   POST   /pods            {node, ...PodSpec}
//   DELETE /pods/<namespace>/<name>
//   POST   /services        ServiceSpec
//   POST   /parts           {action: start|stop|kill|restart, part, node?}
//   POST   /link            {port, action: cut|restore|impair, delayMs?, jitterMs?, loss?}
//   POST   /previews/<name>   what istiod makes of <state directory>/<name>/manifests (preview.ts)
//   POST   /down            ends the lab
import { rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import { once } from "node:events";
import { forward } from "./control-forward.ts";
import { LabError } from "./errors.ts";
import type { PodSpec } from "./kubelet.ts";
import type { Lab, ServiceSpec } from "./lab.ts";
import { PARTS } from "./mesh-parts.ts";
import { Previews } from "./preview.ts";

const MAX_BODY = 1 << 20;

export class ControlServer implements AsyncDisposable {
  readonly #lab: Lab;
  readonly #previews: Previews;
  readonly #server: Server;

  private constructor(lab: Lab) {
    this.#lab = lab;
    this.#previews = new Previews(lab.dir, lab.mesh);
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch((error: Error) => {
        if (response.headersSent) return response.destroy();
        const status = error instanceof LabError ? (error.code === "NOT_FOUND" ? 404 : 409) : 500;
        reply(response, status, {
          error: error.message,
          code: error instanceof LabError ? error.code : "INTERNAL",
        });
      });
    });
  }

  static async start(lab: Lab): Promise<ControlServer> {
    const control = new ControlServer(lab);
    const path = join(lab.dir, "control.sock");
    await rm(path, { force: true });
    control.#server.listen(path);
    await once(control.#server, "listening");
    return control;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
    await rm(join(this.#lab.dir, "lab.json"), { force: true });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = request.url ?? "/";
    const [path = "/"] = url.split("?");
    const [, first = "", second = "", third = ""] = path.split("/").map(decodeURIComponent);
    const { mesh } = this.#lab;
    switch (`${request.method} /${first}`) {
      case "GET /status":
        return reply(response, 200, this.#status());
      case "GET /nodes":
      case "POST /nodes":
        if (third !== "ztunnel" && third !== "cni") break;
        return forward(request, response, mesh, mesh.part(third, second), restOf(url, 3));
      case "GET /istiod":
        return forward(request, response, mesh, mesh.part("istiod"), restOf(url, 1));
      case "POST /pods":
        return reply(response, 200, await this.#runPod(await bodyOf(request)));
      case "DELETE /pods": {
        await this.#lab.node(this.#lab.pod(second, third).node).deletePod(second, third);
        return reply(response, 200, {});
      }
      case "POST /services":
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the cluster checks the object it becomes
        return reply(
          response,
          200,
          await this.#lab.service((await bodyOf(request)) as unknown as ServiceSpec),
        );
      case "POST /parts":
        await this.#drivePart(await bodyOf(request));
        return reply(response, 200, {});
      case "POST /link":
        await this.#driveLink(await bodyOf(request));
        return reply(response, 200, {});
      case "POST /previews":
        return reply(response, 200, await this.#previews.make(second));
      case "POST /down":
        reply(response, 200, {});
        process.kill(process.pid, "SIGTERM");
        return;
      default:
    }
    throw new LabError("NOT_FOUND", `No ${request.method} ${path} here`);
  }

  #status(): unknown {
    const { nodes, pods, mesh, dir, manifestDir, families } = this.#lab;
    return {
      dir,
      manifestDir,
      families,
      nodes: nodes.map((n) => ({ name: n.name, addresses: n.addresses, podCidrs: n.podCidrs })),
      pods: pods.map((p) => ({
        namespace: p.namespace,
        name: p.name,
        uid: p.uid,
        node: p.node,
        ips: p.ips,
        netnsPath: p.netns.path,
        process:
          p.main === null
            ? null
            : { pid: p.main.pid, running: p.main.running, exitCode: p.main.exitCode },
        /** What runs a command inside, from within the sandbox; the command follows. */
        enter: p.argv([]),
      })),
      parts: mesh.parts.map(({ name, node, process: p, logFile }) => ({
        name,
        node,
        logFile,
        state: p === null ? "never started" : p.running ? "running" : `ended (${p.exitCode})`,
        pid: p?.pid ?? null,
      })),
    };
  }

  async #runPod(body: Body): Promise<unknown> {
    const { node, ...spec } = body;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the cluster checks the object it becomes
    const pod = await this.#lab.runPod(text(node, "node"), spec as unknown as PodSpec);
    return { namespace: pod.namespace, name: pod.name, uid: pod.uid, ips: pod.ips };
  }

  async #drivePart(body: Body): Promise<void> {
    const part = PARTS.find((p) => p === body["part"]);
    if (part === undefined) throw new LabError("CONTROL", `part is one of ${PARTS.join(", ")}`);
    const node =
      body["node"] === undefined || body["node"] === null ? undefined : text(body["node"], "node");
    const action = text(body["action"], "action");
    if (action === "start") await this.#lab.start(part, node);
    else if (action === "stop") await this.#lab.stop(part, node);
    else if (action === "kill") await this.#lab.kill(part, node);
    else if (action === "restart") await this.#lab.restart(part, node);
    else throw new LabError("CONTROL", "action is one of start, stop, kill, restart");
  }

  async #driveLink(body: Body): Promise<void> {
    const { link } = this.#lab;
    const port = text(body["port"], "port");
    const number = (key: string): number => (typeof body[key] === "number" ? body[key] : 0);
    const action = text(body["action"], "action");
    if (action === "cut") await link.cut(port);
    else if (action === "restore") await link.restore(port);
    else if (action === "impair")
      await link.impair(port, {
        delayMs: number("delayMs"),
        jitterMs: number("jitterMs"),
        loss: number("loss"),
      });
    else throw new LabError("CONTROL", "action is one of cut, restore, impair");
  }
}

type Body = Readonly<Record<string, unknown>>;

/** What follows the first `count` segments of a URL, query included. */
const restOf = (url: string, count: number): string =>
  `/${url
    .split("/")
    .slice(count + 1)
    .join("/")}`;

function reply(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(`${JSON.stringify(body)}\n`);
}

async function bodyOf(request: IncomingMessage): Promise<Body> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY) throw new LabError("CONTROL", `Request body over ${MAX_BODY} bytes`);
    chunks.push(chunk);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch (cause) {
    throw new LabError("CONTROL", "Request body is no JSON", { cause });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw new LabError("CONTROL", "Request body is no JSON object");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- checked above
  return parsed as Body;
}

function text(value: unknown, name: string): string {
  if (typeof value !== "string" || value === "")
    throw new LabError("CONTROL", `${name} is missing`);
  return value;
}
