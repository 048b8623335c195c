// Baggage of a workload's record, made once per record.
import { formatBaggage } from "#lib/wire/connect-headers.ts";
import type { Workload } from "#lib/model/workload.ts";

const made = new WeakMap<Workload, string>();

export function baggageOf(w: Workload): string {
  let text = made.get(w);
  if (text === undefined) {
    text = formatBaggage({
      clusterId: w.clusterId,
      namespace: w.namespace,
      workloadKind: w.workloadType,
      workloadName: w.workloadName,
      serviceName: w.canonicalName,
      revision: w.canonicalRevision,
      region: w.locality.region,
      zone: w.locality.zone,
    });
    made.set(w, text);
  }
  return text;
}
