// A waypoint in the lab: the program as a pod with its own service account and token, labelled as an instance of its
// Gateway. The Gateway object, and the address in its status, are the caller's.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { hasV6 } from "./address-plan.ts";
import type { PodSpec } from "./kubelet.ts";
import type { Lab } from "./lab.ts";
import { ISTIOD_HOST, ROOT, TRUST_DOMAIN } from "./mesh-parts.ts";
import type { LabPod } from "./pod.ts";

export interface WaypointSpec {
  readonly namespace: string;
  /** Name of the Gateway; of the service account and the pod too, unless given. */
  readonly gateway: string;
  readonly pod?: string;
  readonly serviceAccount?: string;
  readonly env?: Readonly<Record<string, string>>;
}

const READINESS_PORT = 15_021;

/** Resolves when it is ready: with a certificate and the mesh. @throws {LabError} `NOT_READY` */
export async function runWaypoint(lab: Lab, node: string, spec: WaypointSpec): Promise<LabPod> {
  const { namespace, gateway, pod: name = gateway, serviceAccount = gateway } = spec;
  const dir = join(lab.dir, "waypoints", `${namespace}_${name}`);
  const token = join(dir, "istio-token");
  await mkdir(dir, { recursive: true });
  const subject = { namespace, serviceAccount, node: { name: node } };
  await writeFile(token, await lab.mesh.issueToken(subject), { mode: 0o600 });
  const pod: PodSpec = {
    name,
    namespace,
    serviceAccount,
    labels: {
      "istio.io/dataplane-mode": "none",
      "gateway.networking.k8s.io/gateway-name": gateway,
      "gateway.istio.io/managed": "istio.io-mesh-controller",
      "service.istio.io/canonical-name": gateway,
    },
    command: [process.execPath, join(ROOT, "waypoint/main.ts")],
    env: {
      XDS_ADDRESS: `https://${ISTIOD_HOST}:15012`,
      CA_ADDRESS: `https://${ISTIOD_HOST}:15012`,
      XDS_ROOT_CA: join(lab.dir, "root-cert.pem"),
      CA_ROOT_CA: join(lab.dir, "root-cert.pem"),
      AUTH_TOKEN: token,
      TRUST_DOMAIN,
      POD_NAME: name,
      POD_NAMESPACE: namespace,
      NODE_NAME: node,
      INSTANCE_IP: "$(POD_IP)",
      SERVICE_ACCOUNT: serviceAccount,
      GATEWAY_NAME: gateway,
      ISTIO_META_CLUSTER_ID: "Kubernetes",
      IPV6_ENABLED: String(hasV6(lab.families)),
      TERMINATION_GRACE_PERIOD_SECONDS: "5",
      MINIMUM_DRAIN_DURATION: "1s",
      ...spec.env,
    },
    readyPort: READINESS_PORT,
    readyPath: "/healthz/ready",
  };
  return lab.runPod(node, pod);
}
