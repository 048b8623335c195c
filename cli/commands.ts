// Every command by its id; oclif reads this table ("explicit" discovery, see program.ts). Commands import what
// is slow to load inside `run`, so that help stays fast.
import type { Command } from "@oclif/core/command";
import { Apply } from "./commands/apply.ts";
import { BugReport } from "./commands/bug-report.ts";
import { Check } from "./commands/check.ts";
import { Install } from "./commands/install.ts";
import { ManifestDiff } from "./commands/manifest/diff.ts";
import { ManifestGenerate } from "./commands/manifest/generate.ts";
import { Uninstall } from "./commands/uninstall.ts";
import { WaypointApply } from "./commands/waypoint/apply.ts";
import { WaypointDelete } from "./commands/waypoint/delete.ts";
import { WaypointGenerate } from "./commands/waypoint/generate.ts";
import { WaypointList } from "./commands/waypoint/list.ts";
import { WaypointStatusCommand } from "./commands/waypoint/status.ts";
import { Completion } from "./commands/completion.ts";
import { Delete } from "./commands/delete.ts";
import { Demo } from "./commands/demo.ts";
import { DescribeNamespace } from "./commands/describe/namespace.ts";
import { DescribeNode } from "./commands/describe/node.ts";
import { DescribePod } from "./commands/describe/pod.ts";
import { DescribeService } from "./commands/describe/service.ts";
import { Enroll } from "./commands/enroll.ts";
import { ExplainConnection } from "./commands/explain/connection.ts";
import { Get } from "./commands/get.ts";
import { LabDown } from "./commands/lab/down.ts";
import { LabExec } from "./commands/lab/exec.ts";
import { LabRun } from "./commands/lab/run.ts";
import { LabStatus } from "./commands/lab/status.ts";
import { LabUp } from "./commands/lab/up.ts";
import { Label } from "./commands/label.ts";
import { NamespaceList } from "./commands/namespace/list.ts";
import { ProxyStatus } from "./commands/proxy-status.ts";
import { Status } from "./commands/status.ts";
import { TunnelsList } from "./commands/tunnels/list.ts";
import { TunnelsWatch } from "./commands/tunnels/watch.ts";
import { Unenroll } from "./commands/unenroll.ts";
import { Version } from "./commands/version.ts";
import { ZtunnelConfigAll } from "./commands/ztunnel-config/all.ts";
import { ZtunnelConfigCertificate } from "./commands/ztunnel-config/certificate.ts";
import { ZtunnelConfigConnections } from "./commands/ztunnel-config/connections.ts";
import { ZtunnelConfigLog } from "./commands/ztunnel-config/log.ts";
import { ZtunnelConfigPolicy } from "./commands/ztunnel-config/policy.ts";
import { ZtunnelConfigService } from "./commands/ztunnel-config/service.ts";
import { ZtunnelConfigWorkload } from "./commands/ztunnel-config/workload.ts";

/** `tunnels` alone lists; a class of its own, since oclif stores the id on the class. */
class Tunnels extends TunnelsList {}

export const COMMANDS: Readonly<Record<string, Command.Class>> = {
  apply: Apply,
  "bug-report": BugReport,
  check: Check,
  completion: Completion,
  delete: Delete,
  demo: Demo,
  "describe:namespace": DescribeNamespace,
  "describe:node": DescribeNode,
  "describe:pod": DescribePod,
  "describe:service": DescribeService,
  enroll: Enroll,
  "explain:connection": ExplainConnection,
  get: Get,
  install: Install,
  "lab:down": LabDown,
  "lab:exec": LabExec,
  "lab:run": LabRun,
  "lab:status": LabStatus,
  "lab:up": LabUp,
  label: Label,
  "manifest:diff": ManifestDiff,
  "manifest:generate": ManifestGenerate,
  "namespace:list": NamespaceList,
  "proxy-status": ProxyStatus,
  status: Status,
  tunnels: Tunnels,
  "tunnels:list": TunnelsList,
  "tunnels:watch": TunnelsWatch,
  unenroll: Unenroll,
  uninstall: Uninstall,
  version: Version,
  "waypoint:apply": WaypointApply,
  "waypoint:delete": WaypointDelete,
  "waypoint:generate": WaypointGenerate,
  "waypoint:list": WaypointList,
  "waypoint:status": WaypointStatusCommand,
  "ztunnel-config:all": ZtunnelConfigAll,
  "ztunnel-config:certificate": ZtunnelConfigCertificate,
  "ztunnel-config:connections": ZtunnelConfigConnections,
  "ztunnel-config:log": ZtunnelConfigLog,
  "ztunnel-config:policy": ZtunnelConfigPolicy,
  "ztunnel-config:service": ZtunnelConfigService,
  "ztunnel-config:workload": ZtunnelConfigWorkload,
};
