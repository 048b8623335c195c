// security.istio.io: who may call what, how callers identify themselves, which tokens requests carry. One file to an API
// group: its kinds share their selectors, targets and rules.
import type { Kind } from "./definition.ts";
import { flag, list, map, object, type Rule, text, word } from "./schema.ts";
import {
  ACCOUNT,
  HAS_TARGETS,
  IP_BLOCK,
  PORT_TEXT,
  SELECTOR,
  SELECTOR_OR_TARGETS,
  status,
  TARGETS,
} from "./shared.ts";

const VERSIONS = ["v1", "v1beta1"];
const MODES = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] as const;
/** Istio's limit for rules and sources; the rules below are counted for the worst case of both. */
const MAX = 512;

const matches = (what: string) =>
  list(`${what} Exact, prefix (abc*), suffix (*abc), or * for any.`, text("One value."));
/** Certificates carry `spiffe://` before the principal, policies do not: with it nothing would match. */
const principals = (what: string) =>
  list(`${what} As cluster.local/ns/shop/sa/client, without spiffe://; also abc*, *abc and *.`, {
    ...text("One principal, without spiffe://."),
    not: { pattern: "^spiffe://" },
  });
const blocks = (what: string) => list(what, IP_BLOCK);
const ports = (what: string) => list(what, text("A port number as text.", { pattern: PORT_TEXT }));
const accounts = (what: string) =>
  list(
    `${what} As namespace/name, or name for this namespace; no wildcards.`,
    text("One service account.", { maxLength: 320, pattern: ACCOUNT }),
    { maxItems: 16 },
  );

const SOURCE = object(
  "Callers; all fields that are set must match.",
  {
    principals: principals("Identities of callers."),
    notPrincipals: principals("Identities callers must not have."),
    namespaces: matches("Namespaces of callers."),
    notNamespaces: matches("Namespaces callers must not be in."),
    serviceAccounts: accounts("Service accounts of callers."),
    notServiceAccounts: accounts("Service accounts callers must not have."),
    ipBlocks: blocks("Addresses connections come from."),
    notIpBlocks: blocks("Addresses connections must not come from."),
    remoteIpBlocks: blocks("Addresses in X-Forwarded-For; waypoints only."),
    notRemoteIpBlocks: blocks("Addresses not in X-Forwarded-For; waypoints only."),
    requestPrincipals: matches("Token issuer/subject; waypoints only."),
    notRequestPrincipals: matches("Token issuer/subject that is refused; waypoints only."),
    trustDomains: matches("Trust domains of callers."),
    notTrustDomains: matches("Trust domains callers must not be of."),
  },
  {
    minProperties: 1,
    rules: [
      {
        rule: "!(has(self.serviceAccounts) || has(self.notServiceAccounts)) || !(has(self.principals) || has(self.notPrincipals) || has(self.namespaces) || has(self.notNamespaces))",
        message:
          "serviceAccounts already name the namespace and the identity: remove principals and namespaces, or put them in a source of their own",
      },
    ],
  },
);

const OPERATION = object(
  "What is called; all fields that are set must match.",
  {
    ports: ports("Ports of the destination."),
    notPorts: ports("Ports that are not meant."),
    hosts: matches("Host of the request; waypoints only."),
    notHosts: matches("Hosts that are not meant; waypoints only."),
    methods: matches("HTTP methods; waypoints only."),
    notMethods: matches("HTTP methods that are not meant; waypoints only."),
    paths: matches("HTTP paths, also with {*} and {**} for segments; waypoints only."),
    notPaths: matches("HTTP paths that are not meant; waypoints only."),
  },
  { minProperties: 1 },
);

/** What a condition may look at. Bracketed names follow headers and claims. */
const CONDITION_KEY =
  "^(source\\.(ip|namespace|principal|serviceAccount|trustDomain)|remote\\.ip|destination\\.(ip|port)|connection\\.sni|request\\.auth\\.(principal|audiences|presenter)|request\\.(headers|auth\\.claims)(\\[[^\\]]+\\])+|experimental\\.envoy\\.filters\\..+)$";

const RULE = object(
  "Matches when one of from, one of to and all of when match; what is left out matches everything.",
  {
    from: list(
      "Callers, one of which must match.",
      object("One caller.", { source: SOURCE }, { required: ["source"] }),
      { maxItems: MAX },
    ),
    to: list(
      "Operations, one of which must match.",
      object("One operation.", { operation: OPERATION }, { required: ["operation"] }),
      { maxItems: MAX },
    ),
    when: list(
      "Conditions that must all match.",
      object(
        "One condition.",
        {
          key: text("What is looked at, such as source.ip or request.headers[x-version].", {
            maxLength: 1024,
            pattern: CONDITION_KEY,
          }),
          values: matches("Values, one of which must match."),
          notValues: matches("Values, none of which may match."),
        },
        {
          required: ["key"],
          rules: [
            {
              rule: "has(self.values) || has(self.notValues)",
              message:
                "values or notValues must be given: a condition without them matches nothing",
            },
          ],
        },
      ),
      { maxItems: MAX },
    ),
  },
  {
    rules: [
      {
        rule: "!has(self.from) || size(self.from) > 0",
        message: "from is empty: list callers, or remove it to mean every caller",
      },
      {
        rule: "!has(self.to) || size(self.to) > 0",
        message: "to is empty: list operations, or remove it to mean every operation",
      },
    ],
  },
);

const ACTION = "(has(self.action) ? self.action : 'ALLOW')";
const S = "f.source";
const L4_SOURCE = [
  "principals",
  "notPrincipals",
  "namespaces",
  "notNamespaces",
  "serviceAccounts",
  "notServiceAccounts",
  "ipBlocks",
  "notIpBlocks",
]
  .map((field) => `has(${S}.${field})`)
  .join(" || ");
const L4_KEYS =
  "['source.ip', 'source.namespace', 'source.principal', 'destination.ip', 'destination.port']";
/**
 * A rule is dead at a node proxy when one of its parts has nothing left that can match. One CEL rule per part: together
 * they would cost more than the API server admits.
 */
const AT_L4: readonly Rule[] = [
  {
    part: "from",
    lives: `r.from.exists(f, ${L4_SOURCE})`,
    fix: "principals, namespaces, serviceAccounts or ipBlocks",
  },
  {
    part: "to",
    lives: "r.to.exists(t, has(t.operation.ports) || has(t.operation.notPorts))",
    fix: "ports",
  },
  {
    part: "when",
    lives: `r.when.all(w, w.key in ${L4_KEYS})`,
    fix: "source.ip, source.namespace, source.principal, destination.ip and destination.port only",
  },
].map(({ part, lives, fix }) => ({
  rule: `${ACTION} != 'DENY' || ${HAS_TARGETS} || !has(self.rules) || self.rules.all(r, !has(r.${part}) || ${lives})`,
  message: `${part} of a DENY without targetRefs must be about connections: node proxies see neither HTTP nor tokens, so this rule would never deny. Use ${fix}, or name what a waypoint serves in targetRefs`,
}));
const IDENTITY_SOURCE = [
  "principals",
  "notPrincipals",
  "namespaces",
  "notNamespaces",
  "serviceAccounts",
  "notServiceAccounts",
  "requestPrincipals",
  "notRequestPrincipals",
  "trustDomains",
  "notTrustDomains",
]
  .map((field) => `has(${S}.${field})`)
  .join(" || ");

export const AUTHORIZATION_POLICY: Kind = {
  group: "security.istio.io",
  kind: "AuthorizationPolicy",
  plural: "authorizationpolicies",
  shortNames: ["ap"],
  versions: VERSIONS,
  description: "Allows or denies connections (node proxies) or requests (waypoints).",
  isSpecRequired: false,
  columns: {
    Action: ".spec.action",
    Ztunnel: '.status.conditions[?(@.type=="ZtunnelAccepted")].reason',
    Waypoint: '.status.conditions[?(@.type=="WaypointAccepted")].reason',
  },
  spec: object(
    "Without selector and targetRefs it is about every pod of the namespace; in the root namespace, of the mesh.",
    {
      selector: SELECTOR,
      ...TARGETS,
      action: word(
        "ALLOW (the default) lets only what matches pass, DENY lets it not pass, AUDIT notes it, CUSTOM asks a provider.",
        "ALLOW",
        "DENY",
        "AUDIT",
        "CUSTOM",
      ),
      provider: object("Who decides; for CUSTOM.", {
        name: text("Name of an extension provider of the mesh configuration."),
      }),
      rules: list(
        "What this is about, one of which must match. ALLOW without rules allows nothing; {} matches everything.",
        RULE,
        { maxItems: MAX },
      ),
    },
    {
      rules: [
        SELECTOR_OR_TARGETS,
        {
          rule: `!(${ACTION} in ['DENY', 'CUSTOM']) || has(self.rules) && size(self.rules) > 0`,
          message:
            "rules must be given for DENY and CUSTOM: without them nothing matches; to deny everything use an ALLOW policy without rules or a rule {}",
        },
        {
          rule: `${ACTION} != 'CUSTOM' || has(self.provider) && has(self.provider.name) && self.provider.name != ''`,
          message:
            "provider.name must name an extension provider of the mesh configuration: CUSTOM asks it",
        },
        {
          rule: `${ACTION} == 'CUSTOM' || !has(self.provider)`,
          message: "provider is for action CUSTOM only: set the action or remove the provider",
        },
        {
          rule: `!(${ACTION} in ['AUDIT', 'CUSTOM']) || ${HAS_TARGETS}`,
          message:
            "action AUDIT and CUSTOM are carried out by waypoints only: name what the waypoint serves in targetRefs",
        },
        ...AT_L4,
        {
          rule: `${ACTION} != 'CUSTOM' || !has(self.rules) || self.rules.all(r, !has(r.from) || r.from.all(f, !(${IDENTITY_SOURCE})))`,
          message:
            "rules of CUSTOM cannot look at identities or tokens, which are checked later: use ipBlocks, to and when, and let the provider decide the rest",
        },
      ],
    },
  ),
  status: status(),
};

export const PEER_AUTHENTICATION: Kind = {
  group: "security.istio.io",
  kind: "PeerAuthentication",
  plural: "peerauthentications",
  shortNames: ["pa"],
  versions: VERSIONS,
  description: "Says whether pods take connections that are not mutually authenticated.",
  isSpecRequired: false,
  columns: { Mode: ".spec.mtls.mode" },
  spec: object(
    "Without selector it is about every pod of the namespace; in the root namespace, of the mesh.",
    {
      selector: SELECTOR,
      mtls: object("For all ports.", {
        mode: word("STRICT refuses plaintext; PERMISSIVE and DISABLE take it.", ...MODES),
      }),
      portLevelMtls: map(
        "By port of the pod: what differs there.",
        object("For this port.", {
          mode: word("STRICT refuses plaintext; PERMISSIVE and DISABLE take it.", ...MODES),
        }),
        {
          minProperties: 1,
          rules: [
            {
              rule: "self.all(key, key.matches('^[1-9][0-9]{0,4}$') && int(key) <= 65535)",
              message: "portLevelMtls has port numbers from 1 to 65535 as keys",
            },
          ],
        },
      ),
    },
    {
      rules: [
        {
          rule: "!has(self.portLevelMtls) || has(self.selector) && has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0",
          message:
            "portLevelMtls needs selector.matchLabels: ports are those of certain pods, not of a namespace",
        },
      ],
    },
  ),
  status: status(),
};

const JWT_RULE = object(
  "One issuer of tokens and where they are found.",
  {
    issuer: text("The token's iss.", { minLength: 1 }),
    audiences: list(
      "The token's aud must be one of these.",
      text("One audience.", { minLength: 1 }),
    ),
    jwksUri: keysAddress(
      "Where the issuer's keys are; without keys, they are discovered from the issuer.",
    ),
    jwks_uri: keysAddress("Older name of jwksUri."),
    jwks: text("The issuer's keys themselves, as a JSON Web Key Set."),
    fromHeaders: list(
      "Headers that carry the token.",
      object(
        "One header.",
        {
          name: text("Name of the header.", { minLength: 1 }),
          prefix: text("What precedes the token, such as 'Bearer '."),
        },
        { required: ["name"] },
      ),
    ),
    fromParams: list(
      "Query parameters that carry the token.",
      text("One parameter.", { minLength: 1 }),
    ),
    fromCookies: list("Cookies that carry the token.", text("One cookie.", { minLength: 1 })),
    forwardOriginalToken: flag("Leaves the token in the request."),
    outputPayloadToHeader: text("Header that gets the token's payload, in base64url."),
    outputClaimToHeaders: list(
      "Claims that are copied to headers.",
      object(
        "One claim.",
        {
          header: text("Name of the header.", { minLength: 1, pattern: "^[-_A-Za-z0-9]+$" }),
          claim: text("Name of the claim, dots for nesting.", { minLength: 1 }),
        },
        { required: ["header", "claim"] },
      ),
    ),
    timeout: text("How long fetching keys may take.", {
      maxLength: 64,
      rules: [
        {
          rule: "duration(self) >= duration('1ms')",
          message: "timeout must be a duration of at least 1ms, such as 5s",
        },
      ],
    }),
    spaceDelimitedClaims: list(
      "Claims that hold several values, divided by spaces.",
      text("One claim.", { minLength: 1 }),
      { maxItems: 64 },
    ),
  },
  {
    rules: [
      {
        rule: "(has(self.jwksUri) ? 1 : 0) + (has(self.jwks_uri) ? 1 : 0) + (has(self.jwks) ? 1 : 0) <= 1",
        message: "jwksUri and jwks exclude one another: keep the one place the keys come from",
      },
      {
        rule: "has(self.issuer) || has(self.jwksUri) || has(self.jwks_uri) || has(self.jwks)",
        message: "issuer is missing: without it and without keys no token can be checked",
      },
    ],
  },
);

function keysAddress(description: string) {
  return text(description, {
    minLength: 1,
    maxLength: 2048,
    rules: [
      {
        rule: "isURL(self) && url(self).getScheme() in ['http', 'https']",
        message: "jwksUri must be a URL that begins with https:// or http://",
      },
    ],
  });
}

export const REQUEST_AUTHENTICATION: Kind = {
  group: "security.istio.io",
  kind: "RequestAuthentication",
  plural: "requestauthentications",
  shortNames: ["ra"],
  versions: VERSIONS,
  description: "Says which tokens requests may carry; waypoints check them.",
  warning: "RequestAuthentication is kept but not carried out yet: waypoints do not look into HTTP",
  isSpecRequired: false,
  columns: { Waypoint: '.status.conditions[?(@.type=="WaypointAccepted")].reason' },
  spec: object(
    "Tokens for what targetRefs name.",
    {
      selector: SELECTOR,
      ...TARGETS,
      jwtRules: list("Issuers, one of which a token must be from.", JWT_RULE, { maxItems: 4096 }),
    },
    {
      rules: [
        SELECTOR_OR_TARGETS,
        {
          rule: HAS_TARGETS,
          message:
            "targetRefs must name what a waypoint serves: node proxies cannot see tokens, so a selector, or nothing, is never carried out",
        },
      ],
    },
  ),
  status: status(),
};
