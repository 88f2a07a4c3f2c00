// Renders a template of Argo Rollouts' notifications, as their engine does: Go's text/template with the functions of
// sprig. The template comes on standard input, and the values as the first argument.
package main

import (
	"encoding/json"
	"io"
	"log"
	"os"
	"text/template"

	"github.com/Masterminds/sprig"
)

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	var values map[string]interface{}
	if err := json.Unmarshal([]byte(os.Args[1]), &values); err != nil {
		log.Fatal(err)
	}
	parsed, err := template.New("message").Funcs(sprig.TxtFuncMap()).Parse(string(text))
	if err != nil {
		log.Fatal(err)
	}
	if err := parsed.Execute(os.Stdout, values); err != nil {
		log.Fatal(err)
	}
}
