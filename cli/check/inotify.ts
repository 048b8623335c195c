// C08: nodes that are containers on this machine share its inotify limits.
import { RESOURCES } from "#lib/kube/objects.ts";
import type { Finding, NotApplicable } from "./check.ts";
import type { CheckContext } from "./context.ts";
import { platformOf } from "./platform.ts";

/** What kind's own documentation asks for. */
const NEEDED: Readonly<Record<string, number>> = {
  max_user_watches: 524_288,
  max_user_instances: 512,
};

export async function inotifyFindings(
  context: CheckContext,
): Promise<readonly Finding[] | NotApplicable> {
  if (platformOf(await context.list(RESOURCES.nodes)) !== "kind")
    return { skipped: "nodes are not containers on this machine" };
  const found: Finding[] = [];
  for (const [name, needed] of Object.entries(NEEDED)) {
    const text = await context.localText(`/proc/sys/fs/inotify/${name}`);
    if (text === null) return { skipped: "this machine does not say" };
    if (Number(text) < needed)
      found.push({
        text: `fs.inotify.${name} is ${text.trim()}: pods may fail with "too many open files"`,
        hint: `sudo sysctl fs.inotify.${name}=${needed}`,
      });
  }
  return found;
}
