// What the agent does when the plugin calls: finds the pod, remembers its sandbox, and lets the
// reconciler bring it to its wanted state before the answer goes out.
import type { Clock } from "#lib/base/clock.ts";
import type { Pod } from "#lib/kube/objects.ts";
import type { Readiness } from "#lib/obs/readiness.ts";
import type { ClusterView } from "./cluster-view.ts";
import type { AgentConfig } from "./config.ts";
import { wishFor } from "../enrolment/wish.ts";
import { AgentError } from "./errors.ts";
import type { PluginHandler } from "./event-server.ts";
import type { PluginEvent } from "./plugin-event.ts";
import { openRuntimeNetns } from "./netns-finder.ts";
import type { PodNetns } from "./pod-netns.ts";
import type { Reconciler } from "./reconciler.ts";
import type { SandboxStore } from "./sandbox-store.ts";

/** The plugin gives up at 5 s; finding the pod may take the first part of them. */
const LOOKUP_MS = 1_500;
const ADD_MS = 4_500;

export function pluginHandler(o: {
  readonly config: AgentConfig;
  readonly view: ClusterView;
  readonly reconciler: Reconciler;
  readonly sandboxes: SandboxStore;
  readonly readiness: Readiness;
  readonly clock: Clock;
}): PluginHandler {
  return {
    async add(event) {
      const deadline = o.clock.now() + ADD_MS;
      const pod = await podOf(o.view, event);
      const uid = pod.metadata.uid ?? "";
      const netns = openEventNetns(o.config, event);
      // remembered whether it joins the mesh now or later
      o.sandboxes.put({
        podUid: uid,
        name: event.podName,
        namespace: event.podNamespace,
        netns: event.netns,
        netnsId: netns.id,
        ips: event.ips,
        containerId: event.containerId,
        network: event.network,
      });
      const owner = o.view.namespace(event.podNamespace);
      if (wishFor(pod, owner, o.config).kind !== "enrol") {
        netns[Symbol.dispose]();
        return;
      }
      o.reconciler.takeSandbox(uid, netns, event.ips);
      await within(deadline - o.clock.now(), o.reconciler.converge(uid), event, o.clock);
    },

    async check(event) {
      const pod = await podOf(o.view, event);
      using netns = openEventNetns(o.config, event);
      return o.reconciler.faults(pod, netns);
    },

    collectGarbage({ network, validContainers }) {
      for (const sandbox of o.sandboxes.all())
        if (sandbox.network === network && !validContainers.has(sandbox.containerId))
          o.sandboxes.delete(sandbox.podUid);
    },

    pending: () => o.readiness.pending(),
  };
}

async function podOf(view: ClusterView, event: PluginEvent): Promise<Pod> {
  const { podNamespace, podName, podUid } = event;
  const pod = await view.lookUp(podNamespace, podName, podUid, LOOKUP_MS);
  if (pod !== null) return pod;
  const of = podUid === "" ? "" : ` with UID ${podUid}`;
  throw new AgentError("UNKNOWN_POD", `The cluster shows no pod ${podNamespace}/${podName}${of}`);
}

function openEventNetns(config: AgentConfig, event: PluginEvent): PodNetns {
  try {
    return openRuntimeNetns(event.netns, config);
  } catch (cause) {
    throw new AgentError(
      "NETNS_NOT_FOUND",
      `Cannot open the network namespace ${event.netns}, looked for below ${config.hostNetnsPrefix || "/"} and ${config.hostProc}`,
      { cause },
    );
  }
}

/** The work goes on after the deadline; only the answer does not wait for it. */
async function within(
  ms: number,
  work: Promise<void>,
  event: PluginEvent,
  clock: Clock,
): Promise<void> {
  const enough = new AbortController();
  const late = clock.sleep(Math.max(0, ms), enough.signal).then(() => {
    if (enough.signal.aborted) return;
    throw new AgentError(
      "PROXY_LOST",
      `Pod ${event.podNamespace}/${event.podName} is not in the mesh after ${Math.round(ms)} ms`,
    );
  });
  try {
    await Promise.race([work, late]);
  } finally {
    enough.abort();
    late.catch(() => undefined);
    work.catch(() => undefined);
  }
}
