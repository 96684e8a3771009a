/** The environment of the host's programs that links start. A guest process has no environment of its own. */
export const PROGRAM_ENV = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin' };
