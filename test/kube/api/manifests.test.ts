// The manifests on a real API server: every overlay and component is taken, pods have the privileges their work needs and
// no more, roles name resources that exist, dashboards and alerts ask for series that exist.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { after, before, test } from "node:test";
import { parse, parseAllDocuments } from "yaml";
import { renderKustomization } from "../../../cli/manifest/render.ts";
import { dashboardFiles } from "../../../manifests/components/monitoring/generate.ts";
import { ControlPlane } from "../control-plane.ts";

const ROOT = join(import.meta.dirname, "../../..");
const MANIFESTS = join(ROOT, "manifests");
const MONITORING = join(MANIFESTS, "components/monitoring");
const OVERLAYS = ["overlays/kind", "overlays/production"];
const COMPONENTS = readdirSync(join(MANIFESTS, "components"));

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}
interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules?: readonly Rule[];
  readonly spec?: { readonly template: { readonly metadata: object; readonly spec: PodSpec } };
}
interface PodSpec {
  readonly containers: readonly Record<string, unknown>[];
  readonly volumes: readonly object[];
  readonly [key: string]: unknown;
}

let api: ControlPlane;

before(async () => {
  api = await ControlPlane.start({ crds: ["ambit", "gateway-api"] });
  await apply(["create", "namespace", "istio-system"]);
  for (const [kind, plural] of [
    ["ServiceMonitor", "servicemonitors"],
    ["PodMonitor", "podmonitors"],
    ["PrometheusRule", "prometheusrules"],
  ] as const)
    await apply(["apply", "-f", "-"], standIn(kind, plural));
});
after(() => api?.[Symbol.asyncDispose]());

/** For a definition that others bring. */
function standIn(kind: string, plural: string): string {
  const schema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  return JSON.stringify({
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.monitoring.coreos.com` },
    spec: {
      group: "monitoring.coreos.com",
      scope: "Namespaced",
      names: { kind, plural },
      versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: schema } }],
    },
  });
}

async function apply(args: readonly string[], stdin?: string): Promise<string> {
  const { stdout } = await api.kubectl(args, {
    allowFailure: false,
    ...(stdin === undefined ? {} : { stdin }),
  });
  return stdout;
}

const rendered = new Map<string, Promise<Manifest[]>>();

function render(dir: string): Promise<Manifest[]> {
  const known = rendered.get(dir) ?? renderNow(dir);
  rendered.set(dir, known);
  return known;
}

async function renderNow(dir: string): Promise<Manifest[]> {
  const text = await apply(["kustomize", join(MANIFESTS, dir)]);
  return parseAllDocuments(text).map((document) => document.toJS() as Manifest);
}

async function podOf(kind: string, name: string): Promise<PodSpec> {
  const found = (await render("overlays/production")).find(
    (o) => o.kind === kind && o.metadata.name === name,
  );
  assert.ok(found?.spec, `${kind} ${name}`);
  return found.spec.template.spec;
}

for (const overlay of OVERLAYS)
  test(`the API server takes ${overlay}, with every component`, async () => {
    const dir = join(MANIFESTS, overlay);
    const dryRun = ["apply", "--server-side", "--dry-run=server", "-k"];
    await apply([...dryRun, dir]);
    const scratch = mkdtempSync(join(MANIFESTS, ".test-"));
    try {
      const kustomization = {
        apiVersion: "kustomize.config.k8s.io/v1beta1",
        kind: "Kustomization",
        resources: [relative(scratch, dir)],
        components: COMPONENTS.map((name) => `../components/${name}`),
      };
      writeFileSync(join(scratch, "kustomization.yaml"), JSON.stringify(kustomization));
      const all = await apply([...dryRun, scratch]);
      for (const part of [
        "podmonitor",
        "prometheusrule",
        "resourcequota",
        "istio-cni-startup-taint",
        "istiod-node-untaint",
      ])
        assert.match(all, new RegExp(part));
    } finally {
      rmSync(scratch, { recursive: true });
    }
  });

test("the CLI makes of every overlay what kubectl makes of it", async () => {
  const byId = (objects: readonly unknown[]): Record<string, unknown> =>
    Object.fromEntries(
      objects
        .map((o) => o as Manifest)
        .map((o) => [`${o.kind} ${o.metadata.namespace ?? ""}/${o.metadata.name}`, o]),
    );
  for (const dir of [...OVERLAYS, "samples/shop"])
    assert.deepEqual(
      byId(await renderKustomization(join(MANIFESTS, dir))),
      byId(await render(dir)),
      dir,
    );
});

test("the API server takes the samples", async () => {
  for (const namespace of ["shop", "street"]) await apply(["create", "namespace", namespace]);
  const dir = join(MANIFESTS, "samples/shop");
  const flags = ["apply", "--server-side", "--dry-run=server", "--warnings-as-errors"];
  await apply([...flags, "-k", dir]);
  for (const name of readdirSync(dir))
    if (name !== "kustomization.yaml") await apply([...flags, "-f", join(dir, name)]);
});

test("every object is labelled as part of the mesh, and in its namespace", async () => {
  for (const overlay of OVERLAYS)
    for (const { kind, metadata } of await render(overlay)) {
      const { labels, namespace } = metadata as { labels?: object; namespace?: string };
      const isGlobal = /^(ClusterRole|ClusterRoleBinding|Namespace|CustomResource.*)$/.test(kind);
      assert.equal(namespace, isGlobal ? undefined : "istio-system", `${kind} ${metadata.name}`);
      assert.ok(
        labels !== undefined && "app.kubernetes.io/part-of" in labels,
        `${kind} ${metadata.name}`,
      );
    }
});

test("istiod: no user, no capability, nothing to write but memory", async () => {
  const { containers, ...pod } = await podOf("Deployment", "istiod");
  assert.deepEqual(pod["securityContext"], {
    fsGroup: 1337,
    runAsGroup: 1337,
    runAsNonRoot: true,
    runAsUser: 1337,
    seccompProfile: { type: "RuntimeDefault" },
  });
  assert.equal(containers.length, 1);
  assert.deepEqual(containers[0]?.["securityContext"], {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"] },
    readOnlyRootFilesystem: true,
  });
  assert.deepEqual(pod.volumes, [
    { name: "tmp", emptyDir: { medium: "Memory", sizeLimit: "64Mi" } },
    { name: "cacerts", secret: { optional: true, secretName: "cacerts" } },
  ]);
});

test("istiod and the shop are admitted where pod security is restricted", async () => {
  await apply(["create", "namespace", "strict"]);
  await apply(["label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted"]);
  const pods = [...(await render("overlays/production")), ...(await render("samples/shop"))];
  for (const { kind, metadata, spec } of pods) {
    if (kind !== "Deployment" || spec === undefined) continue;
    const account = String(spec.template.spec["serviceAccountName"]);
    await apply(["create", "serviceaccount", "-n", "strict", account]).catch(() => "there already");
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: metadata.name, namespace: "strict" },
      // which namespaces may have critical pods is another question
      spec: { ...spec.template.spec, priorityClassName: "" },
    };
    await apply(["create", "--dry-run=server", "-f", "-"], JSON.stringify(pod));
  }
});

test("ztunnel: three capabilities, its own token, and the socket's folder of the host", async () => {
  const { containers, ...pod } = await podOf("DaemonSet", "ztunnel");
  assert.equal(pod["hostNetwork"], undefined);
  assert.equal(pod["automountServiceAccountToken"], false);
  assert.deepEqual(containers[0]?.["securityContext"], {
    allowPrivilegeEscalation: true,
    capabilities: { add: ["NET_ADMIN", "SYS_ADMIN", "NET_RAW"], drop: ["ALL"] },
    privileged: false,
    readOnlyRootFilesystem: true,
    runAsGroup: 1337,
    runAsNonRoot: false,
    runAsUser: 0,
    seccompProfile: { type: "RuntimeDefault" },
  });
  assert.deepEqual(pod.volumes, [
    {
      name: "cni-ztunnel-sock-dir",
      hostPath: { path: "/var/run/ztunnel", type: "DirectoryOrCreate" },
    },
    {
      name: "istio-token",
      projected: {
        sources: [
          {
            serviceAccountToken: {
              audience: "istio-ca",
              expirationSeconds: 43200,
              path: "istio-token",
            },
          },
        ],
      },
    },
    { name: "istiod-ca-cert", configMap: { name: "istio-ca-root-cert" } },
    { name: "tmp", emptyDir: { medium: "Memory", sizeLimit: "64Mi" } },
  ]);
});

test("the node agent: five capabilities, and the folders of the host it works in", async () => {
  const { containers, ...pod } = await podOf("DaemonSet", "istio-cni-node");
  assert.equal(pod["hostNetwork"], undefined);
  assert.deepEqual(containers[0]?.["securityContext"], {
    appArmorProfile: { type: "Unconfined" },
    capabilities: {
      add: ["NET_ADMIN", "NET_RAW", "SYS_PTRACE", "SYS_ADMIN", "DAC_OVERRIDE"],
      drop: ["ALL"],
    },
    privileged: false,
    readOnlyRootFilesystem: true,
    runAsGroup: 0,
    runAsNonRoot: false,
    runAsUser: 0,
  });
  assert.deepEqual(containers[0]?.["volumeMounts"], [
    { name: "cni-bin-dir", mountPath: "/host/opt/cni/bin" },
    { name: "cni-host-procfs", mountPath: "/host/proc", readOnly: true },
    { name: "cni-net-dir", mountPath: "/host/etc/cni/net.d" },
    { name: "cni-socket-dir", mountPath: "/var/run/istio-cni" },
    {
      name: "cni-netns-dir",
      mountPath: "/host/var/run/netns",
      mountPropagation: "HostToContainer",
    },
    { name: "cni-ztunnel-sock-dir", mountPath: "/var/run/ztunnel" },
    { name: "tmp", mountPath: "/tmp" },
  ]);
});

test("node pods run on every node, are the last to go, and keep out of the mesh", async () => {
  for (const [name, key] of [
    ["ztunnel", "app"],
    ["istio-cni-node", "k8s-app"],
  ] as const) {
    const found = (await render("overlays/production")).find(
      (o) => o.kind === "DaemonSet" && o.metadata.name === name,
    );
    const template = found?.spec?.template;
    assert.ok(template, name);
    const { labels } = template.metadata as { labels: Record<string, string> };
    assert.equal(labels[key], name);
    assert.equal(labels["istio.io/dataplane-mode"], "none");
    assert.equal(template.spec["priorityClassName"], "system-node-critical");
    assert.deepEqual(template.spec["tolerations"], [
      { effect: "NoSchedule", operator: "Exists" },
      { effect: "NoExecute", operator: "Exists" },
      { key: "CriticalAddonsOnly", operator: "Exists" },
    ]);
  }
});

test("ztunnel is granted nothing", async () => {
  for (const object of await render("overlays/production"))
    if (object.kind.endsWith("RoleBinding")) {
      const { subjects } = object as unknown as { subjects: readonly { name: string }[] };
      assert.ok(!subjects.some(({ name }) => name === "ztunnel"), object.metadata.name);
    }
});

test("roles name resources that exist, with no wildcard", async () => {
  const known = new Set<string>();
  const listed = await apply(["api-resources", "--no-headers", "-o", "wide"]);
  for (const line of listed.split("\n")) {
    const [, plural, group] = /^(\S+)\s.*?(\S+)\s+(?:true|false)\s/.exec(line) ?? [];
    if (plural !== undefined && group !== undefined)
      known.add(`${plural}.${group.includes("/") ? group.split("/")[0] : ""}`);
  }
  for (const overlay of OVERLAYS)
    for (const { kind, metadata, rules = [] } of await render(overlay))
      for (const rule of rules)
        for (const group of rule.apiGroups)
          for (const resource of rule.resources) {
            const [name = ""] = resource.split("/");
            assert.ok(
              known.has(`${name}.${group}`),
              `${kind} ${metadata.name}: ${group} ${resource}`,
            );
            assert.ok(![group, resource, ...rule.verbs].includes("*"), metadata.name);
          }
});

test("dashboards are what their description makes", () => {
  for (const [name, text] of dashboardFiles())
    assert.equal(readFileSync(join(MONITORING, name), "utf8"), text, `${name}: run generate.ts`);
});

/** Series of others: Prometheus itself, the kubelet, kube-state-metrics. */
const FOREIGN =
  /^(up|container_(cpu_usage_seconds_total|memory_working_set_bytes)|kube_daemonset_status_number_unavailable)$/;
const FUNCTIONS = new Set(
  "sum rate increase min max topk absent histogram_quantile time by and unless offset label_values".split(
    " ",
  ),
);

function seriesIn(query: string): string[] {
  const bare = query
    .replaceAll(/\{[^}]*\}/g, " ")
    .replaceAll(/\[[^\]]*\]/g, " ")
    .replaceAll(/by \([^)]*\)/g, " ")
    .replaceAll(/\boffset \w+/g, " ");
  return [...bare.matchAll(/[a-zA-Z_:][\w:]*/g)]
    .map(([name]) => name)
    .filter((n) => !FUNCTIONS.has(n));
}

function sourceText(): string {
  const text: string[] = [];
  for (const room of ["istiod", "ztunnel", "cni", "waypoint", "lib"])
    for (const path of readdirSync(join(ROOT, room), { recursive: true, encoding: "utf8" }))
      if (path.endsWith(".ts") && !path.endsWith(".test.ts"))
        text.push(readFileSync(join(ROOT, room, path), "utf8"));
  return text.join("\n");
}

test("dashboards and alerts ask for series that exist", () => {
  const queries: string[] = [];
  for (const name of readdirSync(join(MONITORING, "dashboards"))) {
    const dashboard = JSON.parse(readFileSync(join(MONITORING, "dashboards", name), "utf8")) as {
      readonly panels: readonly { readonly targets?: readonly { readonly expr: string }[] }[];
    };
    for (const { targets = [] } of dashboard.panels) queries.push(...targets.map((t) => t.expr));
  }
  for (const rule of alertRules()) queries.push(rule.expr);
  const source = sourceText();
  const unknown = queries
    .flatMap(seriesIn)
    .filter((name) => !FOREIGN.test(name))
    .filter(
      (name) =>
        !source.includes(`"${name.replace(/_(bucket|count|sum)$/, "")}"`) &&
        !source.includes(`"${name}"`),
    );
  assert.deepEqual([...new Set(unknown)], []);
  assert.ok(queries.length > 60);
});

interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: Readonly<Record<string, string>>;
}

function alertRules(): AlertRule[] {
  const { spec } = parse(readFileSync(join(MONITORING, "alerts.yaml"), "utf8")) as {
    readonly spec: { readonly groups: readonly { readonly rules: readonly AlertRule[] }[] };
  };
  return spec.groups.flatMap((group) => group.rules);
}

test("every alert says how bad it is and what to do", () => {
  for (const { alert, labels, annotations } of alertRules()) {
    assert.match(labels.severity, /^(critical|warning)$/, alert);
    for (const key of ["summary", "description", "runbook"])
      assert.ok((annotations[key] ?? "").length > 10, `${alert}: ${key}`);
  }
});
