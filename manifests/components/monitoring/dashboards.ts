// The dashboards: the mesh as a whole, the node proxies, the control plane.
import type { Dashboard, Panel } from "./dashboard.ts";

const RATE = "[$__rate_interval]";
/** Traffic is counted at both ends; one of them is enough. */
const INTO = 'reporter="destination",destination_workload_namespace=~"$namespace"';
const BETWEEN =
  "source_workload, source_workload_namespace, destination_workload, destination_workload_namespace";
const LEGEND = "{{source_workload}} → {{destination_workload}}";

/** From the kubelet's cAdvisor. */
function processPanels(container: string): readonly Panel[] {
  const pods = `namespace="istio-system",container="${container}"`;
  return [
    {
      title: "CPU",
      unit: "short",
      about: "Cores in use.",
      queries: {
        "{{pod}}": `sum by (pod) (rate(container_cpu_usage_seconds_total{${pods}}${RATE}))`,
      },
    },
    {
      title: "Memory",
      unit: "bytes",
      queries: { "{{pod}}": `sum by (pod) (container_memory_working_set_bytes{${pods}})` },
    },
  ];
}

const MESH: Dashboard = {
  uid: "ambit-mesh",
  title: "Ambit / Mesh",
  rows: [
    {
      title: "At a glance",
      panels: [
        {
          title: "In mutual TLS",
          unit: "percentunit",
          kind: "stat",
          width: 6,
          about: "Share of the bytes that reach workloads of the mesh.",
          queries: {
            share: `sum(rate(istio_tcp_received_bytes_total{${INTO},connection_security_policy="mutual_tls"}${RATE})) / sum(rate(istio_tcp_received_bytes_total{${INTO}}${RATE}))`,
          },
        },
        {
          title: "Pods in the mesh",
          kind: "stat",
          width: 6,
          queries: { pods: "sum(workload_manager_active_proxy_count)" },
        },
        {
          title: "Tunnels",
          kind: "stat",
          width: 6,
          queries: { tunnels: "sum(ambit_tunnel_active)" },
        },
        {
          title: "Denials per minute",
          kind: "stat",
          width: 6,
          queries: { denials: `60 * sum(rate(ambit_policy_denials_total${RATE}))` },
        },
      ],
    },
    {
      title: "Traffic",
      panels: [
        {
          title: "Bytes to destinations",
          unit: "Bps",
          queries: {
            "{{destination_workload}}": `sum by (destination_workload) (rate(istio_tcp_received_bytes_total{${INTO}}${RATE}))`,
          },
        },
        {
          title: "Connections opened",
          unit: "cps",
          queries: {
            [LEGEND]: `sum by (${BETWEEN}) (rate(istio_tcp_connections_opened_total{${INTO}}${RATE}))`,
          },
        },
        {
          title: "Plaintext, by source",
          unit: "Bps",
          about: "Callers outside the mesh, and pods that are not captured.",
          queries: {
            [LEGEND]: `sum by (${BETWEEN}) (rate(istio_tcp_received_bytes_total{${INTO},connection_security_policy!="mutual_tls"}${RATE})) > 0`,
          },
        },
        {
          title: "Connections that failed",
          unit: "cps",
          about: "By response flag; ztunnel's README says what each means.",
          queries: {
            "{{destination_workload}} {{response_flags}}": `sum by (destination_workload, response_flags) (rate(istio_tcp_connections_failed_total{destination_workload_namespace=~"$namespace"}${RATE}))`,
          },
        },
      ],
    },
    {
      title: "Policy",
      panels: [
        {
          title: "Denials, by policy",
          unit: "cps",
          queries: {
            "{{namespace}}/{{policy}} ({{reason}})": `sum by (namespace, policy, reason) (rate(ambit_policy_denials_total${RATE}))`,
          },
        },
        {
          title: "Who is denied",
          kind: "table",
          about: "Connections refused in the last hour; `ambit explain connection` says why.",
          queries: {
            denied:
              "topk(20, sum by (source_principal, destination_workload, policy, reason) (increase(ambit_policy_denials_total[1h]))) > 0",
          },
        },
      ],
    },
    {
      title: "Nodes",
      panels: [
        {
          title: "Pods of the mesh, by what was found inside",
          queries: { "{{state}}": "sum by (state) (ambit_cni_pods)" },
        },
        {
          title: "Plugin installed",
          about:
            "1 where the node agent is done; new pods of other nodes are not in the mesh, or do not start.",
          queries: { "{{instance}}": "istio_cni_install_ready" },
        },
        {
          title: "Requests of the CNI plugin",
          unit: "reqps",
          queries: {
            "{{response_code}}": `sum by (response_code) (rate(istio_cni_plugin_requests_total${RATE}))`,
          },
        },
        {
          title: "Repairs and failures of the node agent",
          queries: {
            "repaired {{what}}": `sum by (what) (rate(ambit_cni_repairs_total${RATE}))`,
            "failed {{code}}": `sum by (code) (rate(ambit_cni_reconcile_failures_total${RATE}))`,
            "changes of pods": `sum(rate(nodeagent_reconcile_events_total${RATE}))`,
          },
        },
      ],
    },
  ],
};

const ZTUNNEL: Dashboard = {
  uid: "ambit-ztunnel",
  title: "Ambit / ztunnel",
  rows: [
    { title: "Process", panels: processPanels("istio-proxy") },
    {
      title: "Network",
      panels: [
        {
          title: "Connections opened and closed",
          unit: "cps",
          queries: {
            "{{pod}} opened": `sum by (pod) (rate(istio_tcp_connections_opened_total${RATE}))`,
            "{{pod}} closed": `sum by (pod) (rate(istio_tcp_connections_closed_total${RATE}))`,
          },
        },
        {
          title: "Bytes",
          unit: "Bps",
          queries: {
            "{{pod}} sent": `sum by (pod) (rate(istio_tcp_sent_bytes_total${RATE}))`,
            "{{pod}} received": `sum by (pod) (rate(istio_tcp_received_bytes_total${RATE}))`,
          },
        },
        {
          title: "DNS requests",
          unit: "reqps",
          queries: {
            "{{pod}}": `sum by (pod) (rate(istio_dns_requests_total${RATE}))`,
            "{{pod}} to upstream": `sum by (pod) (rate(istio_dns_upstream_requests_total${RATE}))`,
            "{{pod}} failed": `sum by (pod) (rate(istio_dns_upstream_failures_total${RATE}))`,
          },
        },
        {
          title: "TLS handshakes, 99th percentile",
          unit: "s",
          queries: {
            "{{role}} {{outcome}}": `histogram_quantile(0.99, sum by (le, role, outcome) (rate(ambit_tunnel_handshake_seconds_bucket${RATE})))`,
          },
        },
      ],
    },
    {
      title: "Operations",
      panels: [
        {
          title: "Ends of connections to istiod",
          queries: {
            "{{reason}}": `sum by (reason) (increase(istio_xds_connection_terminations_total${RATE}))`,
          },
        },
        {
          title: "Messages from istiod",
          unit: "reqps",
          queries: { "{{url}}": `sum by (url) (rate(istio_xds_message_total${RATE}))` },
        },
        {
          title: "Pods served and pending",
          about: "Pending pods could not get their listeners.",
          queries: {
            "{{pod}} served": "sum by (pod) (workload_manager_active_proxy_count)",
            "{{pod}} pending": "sum by (pod) (workload_manager_pending_proxy_count)",
          },
        },
        {
          title: "Events lost",
          about: "Overwritten before a client of the event stream read them.",
          queries: { "{{pod}}": `sum by (pod) (rate(ambit_event_lost_total${RATE}))` },
        },
      ],
    },
    {
      title: "Resources",
      panels: [
        {
          title: "Open connections",
          queries: {
            "{{pod}}":
              "sum by (pod) (istio_tcp_connections_opened_total) - sum by (pod) (istio_tcp_connections_closed_total)",
          },
        },
        {
          title: "Tunnels and sockets",
          queries: {
            "{{pod}} tunnels": "sum by (pod) (ambit_tunnel_active)",
            "{{pod}} sockets": "sum by (pod) (istio_tcp_sockets_open)",
          },
        },
        {
          title: "File descriptors",
          unit: "percentunit",
          about: "Of those the process may open.",
          queries: { "{{pod}}": 'process_open_fds{namespace="istio-system"} / process_max_fds' },
        },
      ],
    },
  ],
};

const ISTIOD: Dashboard = {
  uid: "ambit-istiod",
  title: "Ambit / istiod",
  rows: [
    {
      title: "Process",
      panels: [
        ...processPanels("discovery"),
        { title: "Uptime", unit: "s", queries: { "{{pod}}": "istiod_uptime_seconds" } },
        {
          title: "Versions",
          queries: { "{{component}} {{tag}}": "sum by (component, tag) (istio_build)" },
        },
      ],
    },
    {
      title: "Pushes",
      panels: [
        { title: "Clients", queries: { "{{pod}}": "sum by (pod) (pilot_xds)" } },
        {
          title: "Responses sent",
          unit: "reqps",
          queries: { "{{type}}": `sum by (type) (rate(pilot_xds_pushes${RATE}))` },
        },
        {
          title: "From a change to the client's connection",
          unit: "s",
          queries: {
            "99 %": `histogram_quantile(0.99, sum by (le) (rate(pilot_proxy_convergence_time_bucket${RATE})))`,
            "50 %": `histogram_quantile(0.5, sum by (le) (rate(pilot_proxy_convergence_time_bucket${RATE})))`,
          },
        },
        {
          title: "Push time",
          unit: "s",
          kind: "heatmap",
          queries: { "{{le}}": `sum by (le) (increase(pilot_xds_push_time_bucket${RATE}))` },
        },
        {
          title: "Size of responses, 99th percentile",
          unit: "bytes",
          queries: {
            "{{type}}": `histogram_quantile(0.99, sum by (le, type) (rate(pilot_xds_config_size_bytes_bucket${RATE})))`,
          },
        },
        {
          title: "What caused pushes",
          queries: { "{{type}}": `sum by (type) (rate(pilot_push_triggers${RATE}))` },
        },
        {
          title: "Refused, timed out, outdated",
          queries: {
            "refused {{type}}": `sum by (type) (rate(pilot_total_xds_rejects${RATE}))`,
            "stopped reading": `sum(rate(pilot_xds_write_timeout${RATE}))`,
            "outdated nonce": `sum(rate(pilot_xds_expired_nonce${RATE}))`,
            "internal errors": `sum(rate(pilot_total_xds_internal_errors${RATE}))`,
          },
        },
        {
          title: "Resources held",
          queries: { "{{type}}": "max by (type) (ambit_istiod_resources)" },
        },
      ],
    },
    {
      title: "Certificates",
      panels: [
        {
          title: "Requests",
          unit: "reqps",
          queries: {
            received: `sum(rate(citadel_server_csr_count${RATE}))`,
            issued: `sum(rate(citadel_server_success_cert_issuance_count${RATE}))`,
            "refused callers": `sum(rate(citadel_server_authentication_failure_count${RATE}))`,
            unreadable: `sum(rate(citadel_server_csr_parsing_err_count${RATE}))`,
            "not signed": `sum(rate(citadel_server_csr_sign_err_count${RATE}))`,
          },
        },
        {
          title: "Time left",
          unit: "s",
          queries: {
            "root certificate": "min(citadel_server_root_cert_expiry_seconds) - time()",
            "signing certificate": "min(citadel_server_cert_chain_expiry_seconds) - time()",
          },
        },
      ],
    },
    {
      title: "Writers",
      panels: [
        {
          title: "Status writes",
          queries: {
            "{{result}}": `sum by (result) (rate(ambit_istiod_status_writes_total${RATE}))`,
          },
        },
        {
          title: "Changes of the mesh configuration",
          queries: {
            "{{result}}": `sum by (result) (increase(ambit_istiod_mesh_config_reloads_total${RATE}))`,
          },
        },
      ],
    },
  ],
};

export const DASHBOARDS: readonly Dashboard[] = [MESH, ZTUNNEL, ISTIOD];
