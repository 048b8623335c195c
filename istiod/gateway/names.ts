// What the objects of a Gateway are called, and which of its labels and annotations they carry.
import type { Labels } from "#lib/kube/labels.ts";
import type { Gateway } from "#lib/kube/objects.ts";
import { CONTROLLER_VERSION, LAST_APPLIED, NAME_OVERRIDE, SERVICE_ACCOUNT } from "./keys.ts";
import { ParametersError } from "./overlays.ts";
import type { GatewaySettings } from "./settings.ts";

export interface Names {
  /** Of the Deployment and the Service. */
  readonly base: string;
  readonly serviceAccount: string;
}

/** A Service's name (RFC 1035). */
const SERVICE_NAME = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
const ACCOUNT_NAME = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;
/** A label value: Pods are selected by the Gateway's name. */
const MAX_LABEL = 63;

/** The Service's name alone; `null` when it can have none. */
export function baseName({ metadata }: Gateway): string | null {
  const name = metadata.annotations?.[NAME_OVERRIDE] ?? metadata.name;
  return SERVICE_NAME.test(name) ? name : null;
}

/** @throws {ParametersError} for names Kubernetes would refuse */
export function namesOf(gateway: Gateway): Names {
  const { name, annotations = {} } = gateway.metadata;
  const base = baseName(gateway);
  if (name.length > MAX_LABEL)
    throw new ParametersError(
      `The name of the Gateway has ${name.length} characters, at most ${MAX_LABEL}: its Pods are selected by it`,
    );
  if (base === null) {
    const override = annotations[NAME_OVERRIDE];
    const what = override === undefined ? "name of the Gateway" : `annotation ${NAME_OVERRIDE}`;
    throw new ParametersError(
      `The ${what} is no name of a Service: ${JSON.stringify(override ?? name)}`,
    );
  }
  const serviceAccount = annotations[SERVICE_ACCOUNT] ?? name;
  if (!ACCOUNT_NAME.test(serviceAccount))
    throw new ParametersError(
      `The annotation ${SERVICE_ACCOUNT} is no name of a ServiceAccount: ${JSON.stringify(serviceAccount)}`,
    );
  return { base, serviceAccount };
}

export interface Infrastructure {
  readonly labels: Labels;
  readonly annotations: Labels;
}

const NETWORK = "topology.istio.io/network";
/** Of the Gateway API itself: set here, whatever the infrastructure says. */
const RESERVED = "gateway.networking.k8s.io/";
const NEVER_COPIED = new Set([LAST_APPLIED, NAME_OVERRIDE, SERVICE_ACCOUNT, CONTROLLER_VERSION]);

/** `spec.infrastructure` where it is set, else the Gateway's own. */
export function infrastructure(
  { metadata, spec }: Gateway,
  { copiesMetadata, network }: GatewaySettings,
): Infrastructure {
  const own: Gateway["metadata"] = copiesMetadata ? metadata : { name: metadata.name };
  const labels = withoutReserved(spec?.infrastructure?.labels ?? own.labels ?? {});
  const isPlaced = network === null || metadata.labels?.[NETWORK] !== undefined;
  return {
    labels: isPlaced ? labels : { [NETWORK]: network, ...labels },
    annotations: withoutReserved(spec?.infrastructure?.annotations ?? own.annotations ?? {}),
  };
}

function withoutReserved(given: Labels): Labels {
  const kept = Object.entries(given).filter(
    ([key]) => !key.startsWith(RESERVED) && !NEVER_COPIED.has(key),
  );
  return Object.fromEntries(kept);
}
