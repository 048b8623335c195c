// Writes the CustomResourceDefinitions beside it from their descriptions. Run: node manifests/crds/generate.ts
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { definitionOf, type Kind } from "./definition.ts";
import { SERVICE_ENTRY, WORKLOAD_ENTRY } from "./networking.ts";
import { AUTHORIZATION_POLICY, PEER_AUTHENTICATION, REQUEST_AUTHENTICATION } from "./security.ts";

const KINDS: readonly Kind[] = [
  AUTHORIZATION_POLICY,
  PEER_AUTHENTICATION,
  REQUEST_AUTHENTICATION,
  SERVICE_ENTRY,
  WORKLOAD_ENTRY,
];

/** File name → text. */
export function definitionFiles(): ReadonlyMap<string, string> {
  return new Map(
    KINDS.map((kind) => [
      `${kind.group}_${kind.plural}.yaml`,
      `# Made by manifests/crds/generate.ts\n${stringify(definitionOf(kind), {
        aliasDuplicateObjects: false,
        lineWidth: 0,
      })}`,
    ]),
  );
}

if (import.meta.main)
  for (const [name, text] of definitionFiles())
    writeFileSync(join(import.meta.dirname, name), text);
