package main

import "github.com/spf13/pflag"

// chosenFirst are the flags of `trace` that choose what is seen, and with that what
// can be recorded.
var chosenFirst = [...]string{"explain", "sample", "rate", "snap", "ring", "hook"}

// addChosenFirst adds these flags to `replay`, so that it can say why it has none.
func addChosenFirst(fl *pflag.FlagSet) {
	for _, name := range chosenFirst {
		fl.String(name, "", "")
		fl.Lookup(name).Hidden = true
	}
	fl.Lookup("explain").NoOptDefVal = "true"
}

// checkChosenFirst wants none of them.
func checkChosenFirst(fl *pflag.FlagSet) error {
	for _, name := range chosenFirst {
		if fl.Changed(name) {
			return usagef("--%s chooses what is recorded, and what was not recorded cannot be chosen now (give it to nsbpf trace -w)", name)
		}
	}
	return nil
}
