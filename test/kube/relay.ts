// Passes connections on from one place to another: how programs outside a sandbox reach what is inside.
import { once } from "node:events";
import {
  connect,
  createServer,
  type NetConnectOpts,
  type ListenOptions,
  type Server,
} from "node:net";

/** Resolves when it listens. Each connection lives as long as both its ends. */
export async function relay(from: ListenOptions, to: NetConnectOpts): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (outer) => {
    const inner = connect({ ...to, allowHalfOpen: true });
    outer.on("error", () => inner.destroy());
    inner.on("error", () => outer.destroy());
    outer.once("close", () => inner.destroy());
    inner.once("close", () => outer.destroy());
    outer.pipe(inner);
    inner.pipe(outer);
  });
  server.listen(from);
  await once(server, "listening");
  return server;
}
