// `explain connection` as text: the verdict first, then the way, why, and what would help; the stages last.
import type { Explanation, Hop } from "#lib/model/explanation.ts";
import type { Stage, StageId } from "#lib/model/stage.ts";

const MARK: Readonly<Record<Stage["result"], string>> = { pass: "·", choose: "→", stop: "✖" };

const VERDICT: Readonly<Record<Explanation["verdict"], string>> = {
  allowed: "ALLOWED",
  denied: "DENIED",
  unroutable: "UNROUTABLE",
  plaintext: "ALLOWED IN PLAINTEXT",
};

export function explanationText(e: Explanation): string {
  const lines = [verdictText(e), `path   ${pathText(e)}`, ...reasonLines(e), ""];
  for (const s of e.stages) lines.push(`  ${stageText(s)}`);
  return `${lines.join("\n")}\n`;
}

/** `DENIED at D4 (destination ztunnel on b)`. */
export function verdictText({ verdict, deniedAt, path }: Explanation): string {
  return `${VERDICT[verdict]}${deniedAt === null ? "" : ` at ${deniedAt} (${whereOf(deniedAt, path)})`}`;
}

export function pathText(e: Explanation): string {
  return e.path.map(hopText).join(" → ");
}

export function stageText(s: Stage): string {
  return `${s.id} ${MARK[s.result]} ${s.detail}`;
}

/** Why, what would help, and what a reader would overlook. */
export function reasonLines(e: Explanation): string[] {
  const lines: string[] = [];
  const stop = e.stages.find((s) => s.result === "stop");
  if (stop !== undefined) lines.push(`why    ${stop.detail}`);
  const miss = e.nearestMiss;
  if (miss !== null)
    lines.push(
      `       nearest miss: rule ${miss.rule} of ${miss.policy} wants ${miss.field} ${miss.want}, the connection has ${miss.got}`,
    );
  for (const note of e.notes) lines.push(`note   ${note}`);
  for (const fix of e.fixes) {
    lines.push(`fix    ${fix.text}`);
    if (fix.command !== undefined) lines.push(`       ${fix.command}`);
  }
  return lines;
}

function hopText(hop: Hop): string {
  const who = hop.name === null ? hop.address : `${hop.namespace}/${hop.name}`;
  if (hop.kind === "source") return who;
  const port = /:(\d+)$/.exec(hop.address)?.[1];
  // An HBONE hop's own port says nothing about the application's.
  const suffix = hop.name === null || port === undefined || port === "15008" ? "" : `:${port}`;
  return `[${hop.protocol}] ${who}${suffix}`;
}

/** Which proxy decided: stages S are the source's, W the waypoint's, D the destination's. */
function whereOf(id: StageId, path: readonly Hop[]): string {
  const source = path.find((h) => h.kind === "source");
  if (id.startsWith("S")) return proxyOf("source", source);
  if (id.startsWith("W")) return "waypoint";
  return proxyOf(
    "destination",
    path.findLast((h) => h.kind === "endpoint"),
  );
}

function proxyOf(role: string, hop: Hop | undefined): string {
  return `${role} ztunnel${hop === undefined || hop.node === null || hop.node === "" ? "" : ` on ${hop.node}`}`;
}
