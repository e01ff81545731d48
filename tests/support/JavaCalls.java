import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;

/** Posts bodies as Java's own client does by default: with an offer of HTTP/2. */
public class JavaCalls {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        for (int number = 0; number < 3; number++) {
            var text = "{\"start_event\": {\"words\": \"java " + number + "\"}}";
            post(client, arguments[0], BodyPublishers.ofString(text));
            var bytes = text.getBytes(StandardCharsets.UTF_8);
            post(client, arguments[0],
                BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(bytes)));
        }
    }

    private static void post(HttpClient client, String url, BodyPublisher body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url)).POST(body).build();
        var response = client.send(request, BodyHandlers.ofString());
        System.out.println(response.version() + " " + response.statusCode() + " " + response.body());
    }
}
