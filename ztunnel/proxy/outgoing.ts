// A captured connection on its way out, before it is decided on.
import type { Workload } from "#lib/model/workload.ts";
import type { SocketAddr } from "#lib/net/ip.ts";
import type { Pod } from "./pod.ts";

export interface Outgoing {
  readonly pod: Pod;
  /** The accepted socket; whoever carries the decision out owns it. */
  readonly fd: number;
  readonly peer: SocketAddr;
  /** What the application dialled. */
  readonly destination: SocketAddr;
  readonly source: Workload;
}
