/** `stillpoint completion bash`: a script for bash that completes verbs, their options, and names of guests. */
import type { Command } from 'commander';
import { Failure } from '../../protocol/failure.js';
import { guarded } from '../verb.js';

/** Verbs whose first argument is a file; those of most others is a guest. */
const FILES = ['create', 'restore', 'run', 'unwrap', 'wrap'];

export function bashCompletion(program: Command): string {
  const verbs = program.commands.filter((command) => command.name() !== 'help');
  const options = verbs.map((command) => {
    const all = command.options.map((option) => option.long ?? option.short).join(' ');
    const below = command.commands.map((c) => c.name()).join(' ');
    return `    ${command.name()}) words="${[all, '--help', below].join(' ').trim()}" ;;`;
  });
  return `# bash completion for stillpoint: source <(stillpoint completion bash)
_stillpoint() {
  local current=\${COMP_WORDS[COMP_CWORD]} verb=\${COMP_WORDS[1]} words=
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${verbs.map((c) => c.name()).join(' ')} --help --version" -- "$current"))
    return
  fi
  case $verb in
${options.join('\n')}
  esac
  case $verb in
    ${FILES.join('|')}) [[ $current == -* ]] || { COMPREPLY=($(compgen -f -- "$current")); return; } ;;
    *) [[ $current == -* ]] || words="$words $(stillpoint list 2>/dev/null | awk 'NR > 1 { print $1 }')" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _stillpoint stillpoint
`;
}

export function register(program: Command): void {
  program
    .command('completion <shell>')
    .description('print a completion script for a shell (bash)')
    .action((shell: string) =>
      guarded(false, async () => {
        if (shell !== 'bash') throw new Failure('usage', `completion for bash only, not for ${shell}`);
        process.stdout.write(bashCompletion(program));
      }),
    );
}
