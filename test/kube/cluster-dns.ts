// Cluster DNS: the lab's server, answering from the API server, behind a Service with hand-made endpoints.
import type { Netns } from "../../lab/netns.ts";
import { clusterDnsObjects, ClusterDns } from "../../lab/cluster-dns.ts";
import { CONTROL_HOST, linkAddresses, type IpFamilies } from "../../lab/address-plan.ts";
import { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import { openApiServer } from "#lib/kube/api-server/open-api-server.ts";
import { createLogger } from "#lib/obs/log.ts";
import { LabError } from "../../lab/errors.ts";
import type { ControlPlane } from "./control-plane.ts";

/** Serves in `control`, which it borrows, and makes the Service that pods' resolv.conf names. */
export async function startClusterDns(
  api: ControlPlane,
  control: Netns,
  families: IpFamilies,
): Promise<Disposable> {
  const server = await openApiServer({ kubeconfig: api.kubeconfig, userAgent: "cluster-dns" });
  using undo = new DisposableStack();
  undo.use(server);
  const cluster = new ApiServerCluster(server, {
    log: createLogger({ scope: "cluster-dns", level: "error", format: "plain" }),
  });
  const { service, slices } = clusterDnsObjects(families);
  const ipFamilyPolicy = families === "dual" ? "RequireDualStack" : "SingleStack";
  const complete = { ...service, spec: { ...service.spec, ipFamilyPolicy } };
  const stdin = [complete, ...slices].map((object) => JSON.stringify(object)).join("\n---\n");
  const made = await api.kubectl(["apply", "--server-side", "-f", "-"], { stdin });
  if (made.code !== 0) throw new LabError("COMMAND", `Cluster DNS: ${made.stderr}`);
  undo.use(await ClusterDns.start(control, cluster, linkAddresses(CONTROL_HOST, families)));
  return undo.move();
}
