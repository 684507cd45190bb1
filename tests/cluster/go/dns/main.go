// A name server for the conformance suite in place of CoreDNS: it answers every question with no records.
package main

import (
	"log"
	"net"
)

const (
	header   = 12   // bytes of a message before its question
	response = 0x80 // in the third byte
)

func main() {
	server, err := net.ListenPacket("udp", ":53")
	if err != nil {
		log.Fatal(err)
	}
	message := make([]byte, 4096)
	for {
		length, client, err := server.ReadFrom(message)
		if err != nil {
			log.Fatal(err)
		}
		if length < header {
			continue
		}
		message[2] |= response
		if _, err := server.WriteTo(message[:length], client); err != nil {
			log.Print(err)
		}
	}
}
