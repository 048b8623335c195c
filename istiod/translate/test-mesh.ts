// For tests: a translator fed with manifests, answering with rendered resources.
import type { KubeObject } from "#lib/kube/cluster.ts";
import { identityKey, parseManifest } from "#lib/kube/manifest.ts";
import { resourceOf } from "#lib/kube/parse-object.ts";
import { DEFAULT_CONFIG, type TranslateConfig } from "./config.ts";
import type { MeshDelta, ObjectChange } from "./mesh.ts";
import { renderAddress, renderAuthorization } from "./render.ts";
import { MeshTranslator } from "./translator.ts";

/** Rendered JSON, read loosely. */
// oxlint-disable-next-line typescript/no-explicit-any -- assertions reach into rendered JSON
export type Loose = any;

export class TestMesh {
  readonly translator: MeshTranslator;
  readonly #objects = new Map<string, KubeObject>();

  constructor(yaml = "", config: Partial<TranslateConfig> = {}) {
    this.translator = new MeshTranslator({ ...DEFAULT_CONFIG, ...config });
    if (yaml !== "") this.apply(yaml);
  }

  /** Adds or replaces the objects of a multi-document manifest, in one update. */
  apply(yaml: string): MeshDelta {
    return this.translator.update(parse(yaml).map((object) => this.#change(object)));
  }

  /** Removes the objects that the manifest names. */
  remove(yaml: string): MeshDelta {
    return this.translator.update(
      parse(yaml).map((object) => {
        this.#objects.delete(identityKey(object));
        return { resource: known(object), type: "deleted" as const, object };
      }),
    );
  }

  /** The workload of this uid, without the `Kubernetes//Pod/` a Pod's may leave out. */
  workload(uid: string): Loose {
    const full = uid.split("/").length === 2 ? `Kubernetes//Pod/${uid}` : uid;
    const found = this.translator.addresses().get(full);
    return found === undefined ? undefined : (renderAddress(found.bytes) as Loose).workload;
  }

  service(key: string): Loose {
    const found = this.translator.addresses().get(key);
    return found === undefined ? undefined : (renderAddress(found.bytes) as Loose).service;
  }

  policy(key: string): Loose {
    const found = this.translator.authorizations().get(key);
    return found === undefined ? undefined : renderAuthorization(found.bytes);
  }

  /** `type=status/reason` of an object's conditions. */
  conditions(key: string): string[] {
    const found = this.translator.conditions().get(key)?.conditions ?? [];
    return found.map((c) => `${c.type}=${c.status}/${c.reason}`);
  }

  #change(object: KubeObject): ObjectChange {
    const key = identityKey(object);
    const type = this.#objects.has(key) ? "modified" : "added";
    this.#objects.set(key, object);
    return { resource: known(object), type, object };
  }
}

function parse(yaml: string): readonly KubeObject[] {
  const { objects, errors } = parseManifest(yaml, "test.yaml");
  if (errors[0] !== undefined) throw errors[0];
  return objects;
}

function known(object: KubeObject): ObjectChange["resource"] {
  const resource = resourceOf(object);
  if (resource === null) throw new Error(`No resource for kind ${object.kind}`);
  return resource;
}

/** A running, ready, captured Pod. */
export function pod(
  name: string,
  options: { ns?: string; ip?: string; labels?: string; extra?: string } = {},
): string {
  const { ns = "shop", ip = "10.0.0.1", labels = "app: web", extra = "" } = options;
  return `---
apiVersion: v1
kind: Pod
metadata:
  name: ${name}
  namespace: ${ns}
  uid: uid-${name}
  labels: {${labels}}
  annotations: {ambient.istio.io/redirection: enabled}
spec:
  serviceAccountName: ${name}
  containers:
  - name: c
    ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]
${extra}status:
  phase: Running
  podIP: ${ip}
  conditions: [{type: Ready, status: 'True'}]
`;
}

export function service(name: string, spec: string, meta = "", ns = "shop"): string {
  return `---
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${ns}${meta === "" ? "" : `, ${meta}`}}
spec: {${spec}}
`;
}

export function namespace(name: string, labels = ""): string {
  return `---
apiVersion: v1
kind: Namespace
metadata: {name: ${name}, labels: {${labels}}}
`;
}

export function gateway(
  name: string,
  options: { ns?: string; meta?: string; from?: string; address?: string } = {},
): string {
  const {
    ns = "shop",
    meta = "",
    from = "",
    address = `{type: Hostname, value: ${name}.${ns}.svc.cluster.local}`,
  } = options;
  const allowed = from === "" ? "" : `, allowedRoutes: {namespaces: ${from}}`;
  return `---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ${name}, namespace: ${ns}${meta === "" ? "" : `, ${meta}`}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE${allowed}}]
status: {addresses: [${address}]}
`;
}

/** Any object of an Istio kind. */
export function istio(
  kind: string,
  name: string,
  spec: string,
  options: { ns?: string; meta?: string } = {},
): string {
  const { ns = "shop", meta = "" } = options;
  const group = kind.endsWith("Entry") ? "networking" : "security";
  return `---
apiVersion: ${group}.istio.io/v1
kind: ${kind}
metadata: {name: ${name}, namespace: ${ns}${meta === "" ? "" : `, ${meta}`}}
spec: {${spec}}
`;
}
