// A real authorization server for the tests: prints its address as one line of JSON when it is ready,
// and ends when its standard input does, so that it never outlives the test run.
//
//   node provider.mjs CLIENTS      a JSON list of client metadata, in RFC 7591's names

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const jwk = (...kind) => generateKeyPairSync(...kind).privateKey.export({ format: 'jwk' });

const keys = [
  { ...jwk('rsa', { modulusLength: 2048 }), kid: 'rsa', use: 'sig' },
  { ...jwk('ec', { namedCurve: 'P-256' }), kid: 'ec', use: 'sig' },
  { ...jwk('ed25519'), kid: 'ed', use: 'sig' },
];

// What the API is called decides what its tokens look like.
const opaque = { accessTokenFormat: 'opaque' };
const jwt = (alg) => ({ accessTokenFormat: 'jwt', jwt: { sign: { alg } } });
const brief = { accessTokenTTL: 1 };
const resources = {
  'urn:orders:opaque': opaque,
  'urn:orders:opaque:brief': { ...opaque, ...brief },
  'urn:orders:rs256': jwt('RS256'),
  'urn:orders:rs256:brief': { ...jwt('RS256'), ...brief },
  'urn:orders:ps256': jwt('PS256'),
  'urn:orders:es256': jwt('ES256'),
  'urn:orders:eddsa': jwt('EdDSA'),
  'urn:orders:ed25519': jwt('Ed25519'),
};

const configuration = {
  clients: JSON.parse(process.argv[2]),
  jwks: { keys },
  scopes: ['read', 'write', 'offline_access'],
  ttl: { RefreshToken: 600 },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    jwtIntrospection: { enabled: true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, name) => ({ scope: 'read write', ...resources[name] }),
    },
  },
};

// A refresh token without a browser: what an authorization code flow would end with.
async function mintRefreshToken(provider, response) {
  const client = await provider.Client.find('machine');
  const token = new provider.RefreshToken({ client, accountId: 'alice', scope: 'read' });
  response.end(await token.save());
}

const server = createServer().listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  const answer = provider.callback();
  server.on('request', (request, response) => {
    if (request.url === '/mint/refresh-token') mintRefreshToken(provider, response);
    else answer(request, response);
  });
  console.log(JSON.stringify({ issuer }));
});

process.stdin.resume().on('end', () => process.exit());
