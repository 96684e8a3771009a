my %h; $h{$_ % 97} += $_ * $_ for 1 .. 20000; my $t = 0; $t += $h{$_} for sort keys %h; print "$t\n";
my $s = 0; $s += sin($_) / ($_ + 0.5) for 1 .. 5000; printf "%.10f %.3e %d\n", $s, exp(50), 2**31;
my $x = join '', map { chr(65 + $_ * 7 % 26) } 0 .. 999; $x =~ s/([AEIOU])/lc $1/ge;
print unpack('%32C*', $x), ' ', length $x, "\n";
$SIG{ALRM} = sub { die "out\n" }; eval { alarm 1; 1 while 1 }; print $@;
$| = 1;
pipe(my $r, my $w);
if (my $p = fork) { close $w; print while <$r>; waitpid $p, 0; print $? >> 8, "\n" }
else { close $r; print $w "child $_\n" for 1 .. 3; close $w; exit 5 }
printf "%s %.12f\n", 18446744073709551615 % 1000, 1 / 3;
my @a = sort { $a <=> $b } map { ($_ * 7919) % 10007 } 1 .. 5000; print "@a[0 .. 4] $a[-1]\n";
print length(pack 'p', ''), "\n";
