// The readiness port, as kubelets ask it.
import type { HttpReply, Route, Routes } from "./http-server.ts";
import type { Readiness } from "./readiness.ts";

export function readinessRoutes(readiness: Readiness): Routes {
  return new Map<string, Route>([
    [
      "/healthz/ready",
      {
        methods: ["GET"],
        handle: (): HttpReply => {
          const pending = readiness.pending();
          if (pending.length === 0) return { body: "ready\n" };
          return { status: 500, body: `not ready, pending: ${pending.join(", ")}\n` };
        },
      },
    ],
  ]);
}
