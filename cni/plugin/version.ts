// The CNI versions this plugin speaks, and how its three result formats are told apart.

export const SUPPORTED_VERSIONS = [
  "0.1.0",
  "0.2.0",
  "0.3.0",
  "0.3.1",
  "0.4.0",
  "1.0.0",
  "1.1.0",
] as const;

export type CniVersion = (typeof SUPPORTED_VERSIONS)[number];

/** Versions of one group print results alike. */
export type ResultFormat = "0.2" | "0.3" | "1.0";

const FORMAT: Readonly<Record<CniVersion, ResultFormat>> = {
  "0.1.0": "0.2",
  "0.2.0": "0.2",
  "0.3.0": "0.3",
  "0.3.1": "0.3",
  "0.4.0": "0.3",
  "1.0.0": "1.0",
  "1.1.0": "1.0",
};

/** A configuration without a version is of the first. */
export function parseCniVersion(text: unknown): CniVersion | null {
  if (text === undefined || text === "") return "0.1.0";
  return SUPPORTED_VERSIONS.find((version) => version === text) ?? null;
}

export function formatOf(version: CniVersion): ResultFormat {
  return FORMAT[version];
}

/** `a >= b`, in the order of release. */
export function isAtLeast(a: CniVersion, b: CniVersion): boolean {
  return SUPPORTED_VERSIONS.indexOf(a) >= SUPPORTED_VERSIONS.indexOf(b);
}
