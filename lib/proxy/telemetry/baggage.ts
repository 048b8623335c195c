// Baggage of a workload's record, and the answer that carries it, made once per record.
import { formatBaggage } from "#lib/wire/connect-headers.ts";
import type { HeaderList } from "#lib/wire/hpack-encoder.ts";
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

const answers = new WeakMap<Workload, HeaderList>();

/** The headers of a 200 from this workload. */
export function acceptHeaders(w: Workload, withBaggage: boolean): HeaderList {
  if (!withBaggage) return ACCEPT;
  let headers = answers.get(w);
  if (headers === undefined) {
    headers = [
      [":status", "200"],
      ["baggage", baggageOf(w)],
    ];
    answers.set(w, headers);
  }
  return headers;
}

const ACCEPT: HeaderList = [[":status", "200"]];
