// From the description of a kind to its CustomResourceDefinition.
import { object, type Schema } from "./schema.ts";

export interface Kind {
  readonly group: string;
  readonly kind: string;
  readonly plural: string;
  readonly shortNames: readonly string[];
  /** The stored version first; all have one schema. */
  readonly versions: readonly string[];
  readonly description: string;
  readonly spec: Schema;
  readonly status: Schema;
  /** Columns of `kubectl get` beside name and age: title and JSON path. */
  readonly columns: Readonly<Record<string, string>>;
  readonly isSpecRequired: boolean;
  /** Shown by kubectl at every use: what of the kind is not carried out. */
  readonly warning?: string;
}

/** The value the API server takes. */
export function definitionOf(kind: Kind): object {
  const schema = object(
    kind.description,
    {
      apiVersion: { type: "string", description: `${kind.group}/${kind.versions[0]}` },
      kind: { type: "string", description: kind.kind },
      metadata: { type: "object" },
      spec: kind.spec,
      status: kind.status,
    },
    kind.isSpecRequired ? { required: ["spec"] } : {},
  );
  const columns = [
    ...Object.entries(kind.columns).map(([name, jsonPath]) => ({
      name,
      type: "string",
      jsonPath,
    })),
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
  ];
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${kind.plural}.${kind.group}` },
    spec: {
      group: kind.group,
      scope: "Namespaced",
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural: kind.plural,
        singular: kind.kind.toLowerCase(),
        shortNames: kind.shortNames,
        categories: [
          "istio-io",
          `${kind.group.replaceAll(".", "-").replace(/-istio-io$/, "")}-istio-io`,
        ],
      },
      versions: kind.versions.map((name, i) => ({
        name,
        served: true,
        storage: i === 0,
        // the one way a definition has to warn
        ...(kind.warning === undefined
          ? {}
          : { deprecated: true, deprecationWarning: kind.warning }),
        subresources: { status: {} },
        additionalPrinterColumns: columns,
        schema: { openAPIV3Schema: schema },
      })),
    },
  };
}
