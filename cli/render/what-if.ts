// `explain connection --what-if`: the answer with the manifests, beside the one without.
import type { Explanation } from "#lib/model/explanation.ts";
import type { Stage } from "#lib/model/stage.ts";
import type { MeshPreview } from "../kube/preview.ts";
import { pathText, reasonLines, stageText, verdictText } from "./explanation.ts";

export type WhatIf = Pick<MeshPreview, "applied" | "assumptions">;

/** The verdict of both, the manifests, the way and the reasons with them, and the stages line by line. */
export function whatIfText(now: Explanation, then: Explanation, preview: WhatIf): string {
  const path = pathText(then);
  const lines = [
    now.verdict === then.verdict
      ? `STILL ${verdictText(then)}`
      : `${verdictText(now)} now, ${verdictText(then)} with the change`,
    ...preview.applied.map(({ object, change }) => `with   ${object} ${change}`),
    ...preview.assumptions.map((a) => `assume ${a}`),
    `path   ${path}`,
    ...(pathText(now) === path ? [] : [`now    ${pathText(now)}`]),
    ...reasonLines(then),
    ...(isChanged(now, then) ? [] : ["note   nothing about this connection changes"]),
    "",
    ...stageLines(now.stages, then.stages),
  ];
  return `${lines.join("\n")}\n`;
}

/** What the document of an explanation gains. */
export function whatIfDocument(
  now: Explanation,
  then: Explanation,
  { applied, assumptions }: WhatIf,
): unknown {
  return { changed: isChanged(now, then), applied, assumptions, now };
}

/** Objects aside: that a policy is looked at is a change only when a stage says so. */
function isChanged(now: Explanation, then: Explanation): boolean {
  const told = (e: Explanation): string =>
    [verdictText(e), pathText(e), ...e.stages.map(stageText)].join("\n");
  return told(now) !== told(then);
}

/** As a unified diff: both come in the order of the decision, so ids say what belongs beside what. */
function stageLines(now: readonly Stage[], then: readonly Stage[]): string[] {
  const ids = [...new Set([...now, ...then].map((s) => s.id))].sort(inOrder);
  return ids.flatMap((id) => {
    const [before, after] = [now, then].map((stages) =>
      stages.filter((s) => s.id === id).map(stageText),
    ) as [string[], string[]];
    return [
      ...before.filter((line) => !after.includes(line)).map((line) => `- ${line}`),
      ...after.map((line) => `${before.includes(line) ? " " : "+"} ${line}`),
    ];
  });
}

const PLACES = ["S", "W", "D"];

function inOrder(a: string, b: string): number {
  const place = PLACES.indexOf(a.charAt(0)) - PLACES.indexOf(b.charAt(0));
  return place !== 0 ? place : Number(a.slice(1)) - Number(b.slice(1));
}
