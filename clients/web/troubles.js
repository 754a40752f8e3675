// Everything that can go wrong, in words for people, and whether trying again helps. Thrown by sound.js and connection.js.

const WORDS = {
  unsupported: 'This browser cannot record sound here. Open the page over https or on localhost, in a current browser.',
  'no-microphone': 'No microphone was found. Plug one in, or type instead.',
  denied: 'The microphone is not allowed. Allow it in the address bar of your browser, then press Talk again.',
  'in-use': 'The microphone is in use by another program, or failed to start.',
  key: 'This server asks for an API key.',
  'wrong-key': 'That key is not right.',
  forbidden: 'This page may not use the server: its origin is not allowed.',
  busy: 'The server is busy: it has no room for another conversation.',
  loading: 'The server is still loading its models.',
  lost: 'The connection is lost.',
  forgotten: 'The connection was lost for too long; the conversation begins anew.',
  unreachable: 'The server cannot be reached.',
  ended: 'The server ended the conversation.',
};

const AGAIN = new Set(['busy', 'loading', 'lost', 'forgotten', 'unreachable']);

export class Trouble extends Error {
  /** `kind` is a key of WORDS; `retryAfter` is in seconds, where the server said so. */
  constructor(kind, { retryAfter = null, detail = '' } = {}) {
    super(detail ? `${WORDS[kind]} (${detail})` : WORDS[kind]);
    this.kind = kind;
    this.retryAfter = retryAfter;
  }

  /** Whether trying again by itself makes sense. */
  get again() {
    return AGAIN.has(this.kind);
  }

  static ofMicrophone(error) {
    const kinds = {
      NotAllowedError: 'denied',
      SecurityError: 'denied',
      NotFoundError: 'no-microphone',
      OverconstrainedError: 'no-microphone',
      NotReadableError: 'in-use',
      AbortError: 'in-use',
    };
    const kind = kinds[error.name];
    return kind ? new Trouble(kind) : new Trouble('in-use', { detail: error.message });
  }

  /** Of an HTTP answer that is not a success; null where the status says nothing about the server as a whole. */
  static ofResponse(response, hadKey) {
    if (response.status === 401) return new Trouble(hadKey ? 'wrong-key' : 'key');
    if (response.status === 403) return new Trouble('forbidden');
    if (response.status === 503 || response.status === 429) return Trouble.busy(response);
    return null;
  }

  static busy(response) {
    const seconds = Number(response.headers.get('retry-after'));
    return new Trouble('busy', { retryAfter: Number.isFinite(seconds) && seconds > 0 ? seconds : 5 });
  }
}
