// Failures as a container runtime reads them: a number from the CNI specification, a message, details.

/** CNI specification, "Error"; 100 and up are the plugin's own. */
export const CNI_CODE = {
  incompatibleVersion: 1,
  badEnvironment: 4,
  io: 5,
  decoding: 6,
  badConfig: 7,
  ownNamespace: 8,
  other: 999,
} as const;

export type CniCode = (typeof CNI_CODE)[keyof typeof CNI_CODE];

export class CniError extends Error {
  override readonly name = "CniError";
  readonly code: CniCode;
  readonly details: string;

  constructor(code: CniCode, message: string, details = "", options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.details = details;
  }
}

/** The one line of standard output a failed call prints. */
export function errorResult(error: unknown): string {
  const known =
    error instanceof CniError
      ? error
      : new CniError(CNI_CODE.other, error instanceof Error ? error.message : String(error));
  const body: Record<string, unknown> = { code: known.code, msg: known.message };
  if (known.details !== "") body["details"] = known.details;
  return `${JSON.stringify(body)}\n`;
}
