#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# Runs prove, the longest tests first, so that none is left alone at the end, and compares the seconds of each with its budget:
#
#   budget.pl TABLE prove --timer OPTION… FILE…
#
# TABLE has a line for each test: seconds, name. A test that takes longer than its budget is told of; one that takes more
# than three times as long fails the run, as machines differ, and so does a test without a budget. On a machine that is
# slower or busy, where half of the tests take longer than their budgets, all are allowed so much more. What prove prints
# passes through, its closing line last. The exit status is prove's, or 1 when only a budget fails.
use strict;
use warnings;
$| = 1;

my ($path, @prove) = @ARGV;
my @tests = grep { -f } @prove;
my %known = map { name_of($_) => 1 } @tests;
my (%budget, @said, %took);
my ($sum, $over) = (0, 0);

# t/0500-stat.t: 0500-stat.t; a program made of t/unit/plan.c: unit/plan
sub name_of {
    my ($base) = $_[0] =~ m{([^/]+)$};
    return $base =~ /\.t$/ ? $base : "unit/$base";
}

sub fails { push @said, "$_[0]"; $over = 1; }

open(my $table, '<', $path) or die "budget.pl: cannot read '$path': $!\n";
while (<$table>) {
    next if /^#|^\s*$/;
    /^(\d+)\s+(\S+)$/ or die "budget.pl: $path:$.: not a line of seconds and a name\n";
    $budget{$2} = $1;
    $sum += $1;
    push @said, "$2 has a budget and is not here" unless $known{$2};
}
fails("the budgets add up to $sum s, more than the 1400 s that two cores have in twelve minutes") if $sum > 1400;
fails("$_ has no budget: give it a line in $path") for grep { !$budget{$_} } sort keys %known;

@tests = sort { ($budget{name_of($b)} // 0) <=> ($budget{name_of($a)} // 0) } @tests;
open(my $out, '-|', (grep { !-f } @prove), @tests) or die "budget.pl: cannot run '$prove[0]': $!\n";
my $closing = '';
while (<$out>) {
    if (/^Result: /) {
        $closing = $_;
        next;
    }
    print;
    next unless /^(?:\[[^]]*\] )?(\S+) \.+ .*?\b(\d+) ms\b/;
    my ($name, $s) = (name_of($1), $2 / 1000);
    $took{$name} = $s if $budget{$name};
}
close $out;
my $status = $? >> 8 || ($? ? 1 : 0);

# How the tests that take some time compare with their budgets: the one in the middle.
my @pace = sort { $a <=> $b } map { $took{$_} / $budget{$_} } grep { $budget{$_} >= 10 } keys %took;
my $pace = @pace && $pace[$#pace / 2] > 1 ? $pace[$#pace / 2] : 1;
push @said, sprintf('half of the tests took %.1f times their budgets, or more', $pace) if $pace > 1;
for my $name (sort { $took{$b} <=> $took{$a} } keys %took) {
    my ($s, $limit) = ($took{$name}, $budget{$name});
    next if $s <= $limit;
    my $text = sprintf('%s took %.1f s, its budget is %d s', $name, $s, $limit);
    if ($s > 3 * $pace * $limit) { fails("$text: more than three times as long fails"); }
    else { push @said, $text; }
}
print "budget: $_\n" for @said;
$closing =~ s/PASS/FAIL/ if $over;
print $closing;
exit($status || $over);
