/** The environment for the host's programs that links run: a guest process has none of its own. */
export const PROGRAM_ENV = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin' };
